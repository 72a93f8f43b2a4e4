#include <argp.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cli/command.h"

/* argp prints it for --version. */
const char *argp_program_version = "splitctl " SPLITD_VERSION;

static const struct command {
    const char *name;
    int (*run)(int argc, char **argv);
    const char *help;
} commands[] = {
    { "infer", cmd_infer, "send pictures to a cluster and print what it answers" },
    { "run", cmd_run, "run a model here, on threads in place of nodes" },
    { "compare", cmd_compare, "compare a model's outputs with expected ones" },
    { "plan", cmd_plan, "show which node computes and receives what" },
    { "check", cmd_check, "say whether and how a model runs" },
    { "calibrate", cmd_calibrate, "find how coarsely nodes may exchange halos" },
    { "init", cmd_init, "write the configuration of a cluster" },
    { "status", cmd_status, "show the nodes and models of a cluster" },
    { "top", cmd_top, "show what the nodes do, again and again" },
    { "doctor", cmd_doctor, "say what is wrong with a cluster" },
    { "trace", cmd_trace, "write what every node does during an inference, and when" },
    { "pki", cmd_pki, "make the keys and certificates of a cluster" },
    { "psnr", cmd_psnr, "compare two pictures" },
    { "seams", cmd_seams, "show where the pictures of several nodes and of one differ" },
};
enum { NCOMMANDS = sizeof commands / sizeof commands[0] };

int complain(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    fputs("splitctl: ", stderr);
    vfprintf(stderr, fmt, ap);
    fputc('\n', stderr);
    va_end(ap);
    return RESULT_FAILED;
}

/* argp's help filter: puts the table of commands after the options. */
static char *command_list(int key, const char *text, void *input)
{
    (void)input;
    if (key != ARGP_KEY_HELP_POST_DOC)
        return (char *)text;

    char *list = NULL;
    size_t len;
    FILE *f = open_memstream(&list, &len);
    if (!f)
        return (char *)text;
    fputs("Commands:\n", f);
    for (int i = 0; i < NCOMMANDS; i++)
        fprintf(f, "  %-9s %s\n", commands[i].name, commands[i].help);
    fputs("\n\"splitctl COMMAND --help\" explains one.", f);
    return fclose(f) == 0 ? list : (char *)text;
}

static int run_command(const struct command *c, int argc, char **argv)
{
    char name[32];
    snprintf(name, sizeof name, "splitctl %s", c->name);
    argv[0] = name;

    const int result = c->run(argc, argv);
    if (fflush(stdout) != 0 || ferror(stdout))
        return complain("standard output: %s", strerror(errno));
    return result;
}

/* Finds the command: the first argument that is no option.  What follows is the command's own. */
static error_t parse(int key, char *arg, struct argp_state *state)
{
    int *result = state->input;
    switch (key) {
    case ARGP_KEY_ARG:
        for (int i = 0; i < NCOMMANDS; i++)
            if (strcmp(commands[i].name, arg) == 0) {
                *result = run_command(&commands[i], state->argc - state->next + 1,
                                      state->argv + state->next - 1);
                state->next = state->argc;
                return 0;
            }
        argp_error(state, "'%s' is not a command", arg);
        return EINVAL;
    case ARGP_KEY_NO_ARGS:
        argp_error(state, "a command is missing");
        return EINVAL;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int main(int argc, char **argv)
{
    static const struct argp argp = {
        .parser = parse,
        .args_doc = "COMMAND [ARGUMENT...]",
        .doc = "Runs convolutional neural networks across several small computers as if they were "
               "one.\v ",
        .help_filter = command_list,
    };
    int result = RESULT_FAILED;

    argp_err_exit_status = RESULT_USAGE;
    if (argp_parse(&argp, argc, argv, ARGP_IN_ORDER, NULL, &result) != 0)
        return RESULT_USAGE;
    return result;
}
