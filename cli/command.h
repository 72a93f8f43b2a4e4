/* cli/command.h - the commands of splitctl, one file each, and what they have in common. */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

/* Exit codes of every command. */
enum { RESULT_OK = 0, RESULT_FAILED = 1, RESULT_USAGE = 2 };

/* argv[0] is "splitctl NAME".  Returns an exit code.  What is wrong with the command line itself,
 * --help and --version end the process inside argp. */
int cmd_infer(int argc, char **argv);
int cmd_run(int argc, char **argv);
int cmd_compare(int argc, char **argv);
int cmd_plan(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_calibrate(int argc, char **argv);
int cmd_status(int argc, char **argv);
int cmd_psnr(int argc, char **argv);
int cmd_init(int argc, char **argv);
int cmd_top(int argc, char **argv);
int cmd_doctor(int argc, char **argv);
int cmd_pki(int argc, char **argv);
int cmd_seams(int argc, char **argv);
int cmd_trace(int argc, char **argv);

/* Writes "splitctl: <sentence>" to stderr.  Returns RESULT_FAILED. */
__attribute__((format(printf, 1, 2))) int complain(const char *fmt, ...);

/* The ending of a noun of which there are `n`. */
static inline const char *plural(long n) { return n == 1 ? "" : "s"; }

#endif
