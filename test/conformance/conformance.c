/* Runs the test cases of the ONNX project (Debian's libonnx-testdata) through libsplit, on one
 * node and on three, and holds the answers against ONNX's at the tolerance of
 * onnx.backend.test.
 *
 *     conformance DATA EXCEPTIONS [GROUP/CASE...]
 *
 * EXCEPTIONS names the cases that need not pass, under the reason why.  The run fails when one
 * that is not named there does not pass, and when one that is named passes.  Each case runs in
 * a process of its own, so that none can take the others down. */
#include <dirent.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libsplit/onnx_tensor_file.h"
#include "libsplit/session.h"

enum {
    MAX_CASES = 8192,
    MAX_REASONS = 64,
    MAX_PORTS = 32,
    MAX_SETS = 16,
    MAX_JOBS = 16,
    NAME_BYTES = 320,
    PATH_BYTES = 1024,
    TIMEOUT_SECONDS = 30,
    LINE_COLUMNS = 100,
};

/* What becomes of the inputs of a case.  ONNX feeds everything through inputs, also weights and
 * shapes, which the files of exporters hold as constants. */
enum binding {
    BIND_NUMBERS, /* constants: shapes, axes, indices..., everything that is no float tensor */
    BIND_WEIGHTS, /* and every float tensor but the first */
    BIND_ALL,     /* everything: the case is computed while it is loaded */
    BINDINGS
};

/* Written by the process that runs a case, read by the one that started it. */
struct verdict {
    bool passed;
    enum binding binding;
    char text[480]; /* why not */
};

struct trial {
    char name[NAME_BYTES]; /* "node/test_abs" */
    const char *reason;    /* why it need not pass; NULL: it must */
};

struct run {
    const char *data;
    struct trial trial[MAX_CASES];
    int ntrials;
    int expected; /* cases of the release that EXCEPTIONS was written for */
    char *exceptions;
    const char *reason[MAX_REASONS];
    int nreasons;
    struct verdict *verdict; /* [ntrials], shared with the children */
};

static void *must(void *p)
{
    if (!p) {
        fprintf(stderr, "conformance: out of memory\n");
        exit(2);
    }
    return p;
}

/* ---- one case ---- */

/* What a case feeds and expects, in graph order. */
struct data_set {
    struct onnx_tensor_file input[MAX_PORTS], output[MAX_PORTS];
    int ninputs, noutputs;
};

/* input_0.pb, input_1.pb..., as many as there are; counts those that are open. */
static int load_tensors(const char *dir, const char *kind, struct onnx_tensor_file *f, int *n,
                        struct diag *why)
{
    for (; *n < MAX_PORTS; ++*n) {
        char path[PATH_BYTES];
        snprintf(path, sizeof path, "%s/%s_%d.pb", dir, kind, *n);
        if (access(path, F_OK) != 0)
            break;
        const int rc = onnx_tensor_open(&f[*n], path, why);
        if (rc < 0)
            return rc;
    }
    return 0;
}

static int load_set(const char *dir, struct data_set *s, struct diag *why)
{
    const int rc = load_tensors(dir, "input", s->input, &s->ninputs, why);
    return rc < 0 ? rc : load_tensors(dir, "output", s->output, &s->noutputs, why);
}

static void set_done(struct data_set *s)
{
    for (int i = 0; i < s->ninputs; i++)
        onnx_tensor_close(&s->input[i]);
    for (int i = 0; i < s->noutputs; i++)
        onnx_tensor_close(&s->output[i]);
}

/* A model some of whose inputs have become constants. */
struct bound {
    struct onnx_model model;
    struct graph_input shape[MAX_PORTS];
    const struct onnx_tensor *feed[MAX_PORTS]; /* of the inputs that are left */
};

static bool is_fed(const struct onnx_tensor *t, enum binding how, int nfed)
{
    if (t->type != ONNX_FLOAT || t->count == 0)
        return false;
    return how == BIND_NUMBERS || (how == BIND_WEIGHTS && nfed == 0);
}

static void bind(const struct onnx_model *m, const struct data_set *s, enum binding how,
                 struct bound *b)
{
    *b = (struct bound){ .model = *m };
    b->model.input = must(calloc(MAX_PORTS, sizeof *b->model.input));
    b->model.tensor = must(calloc((size_t)m->ntensors + MAX_PORTS, sizeof *b->model.tensor));
    if (m->ntensors)
        memcpy(b->model.tensor, m->tensor, (size_t)m->ntensors * sizeof *m->tensor);
    b->model.ninputs = 0;
    for (int i = 0; i < m->ninputs; i++) {
        const struct onnx_tensor *t = &s->input[i].tensor;
        const int n = b->model.ninputs;
        if (!is_fed(t, how, n)) {
            struct onnx_tensor *constant = &b->model.tensor[b->model.ntensors++];
            *constant = *t;
            constant->name = m->input[i].name;
            continue;
        }
        b->model.input[n] = m->input[i];
        b->feed[n] = t;
        b->shape[n] = (struct graph_input){ .name = m->input[i].name, .rank = t->rank };
        for (int a = 0; a < t->rank; a++)
            b->shape[n].dim[a] = (int32_t)t->dim[a];
        b->model.ninputs++;
    }
}

static void bound_done(struct bound *b)
{
    free(b->model.input);
    free(b->model.tensor);
}

/* onnx.backend.test compares so, with NumPy's assert_allclose. */
static bool close_enough(double got, double want)
{
    if (isnan(want) || isnan(got))
        return isnan(want) && isnan(got);
    return got == want || fabs(got - want) <= 1e-7 + 1e-3 * fabs(want);
}

static int compare(const struct port *port, const float *got, const struct onnx_tensor *want,
                   struct diag *why)
{
    char have[SHAPE_TEXT_BYTES];
    const struct shape shape = port_shape(port, got);
    bool same = shape.rank == want->rank;
    for (int32_t i = 0; same && i < want->rank; i++)
        same = shape.dim[i] == want->dim[i];
    if (!same)
        return diag(why, -ERANGE, "output %s has shape %s, not ONNX's", port->name,
                    shape_text(&shape, have));
    for (int64_t i = 0; i < want->count; i++)
        if (!close_enough((double)got[i], onnx_double(want, i)))
            return diag(why, -ERANGE, "output %s: value %lld is %.9g, ONNX says %.9g", port->name,
                        (long long)i, (double)got[i], onnx_double(want, i));
    return 0;
}

/* The values of all outputs, one after the other, in ONNX's order. */
static float *run_on(const struct bound *b, int nodes, const struct data_set *s, size_t *values,
                     int *rc, struct diag *why)
{
    struct graph g;
    struct split_session *session = NULL;
    float *in[MAX_PORTS] = { NULL }, *out[MAX_PORTS] = { NULL }, *all = NULL;
    struct plan_options o = { .placement = PLAN_ROWS, .nodes = nodes };
    for (int n = 0; n < nodes; n++)
        o.weight[n] = 1;
    *rc = graph_build(&g, &b->model, b->shape, b->model.ninputs, why);
    if (*rc < 0)
        return NULL;
    *values = 0;
    for (int i = 0; i < g.noutputs; i++)
        *values += (size_t)shape_values(&g.output[i].shape);
    all = must(malloc(*values * sizeof *all + 1));
    size_t at = 0;
    for (int i = 0; i < g.noutputs; at += (size_t)shape_values(&g.output[i++].shape))
        out[i] = all + at;
    for (int i = 0; i < g.ninputs; i++) {
        in[i] = must(malloc((size_t)b->feed[i]->count * sizeof *in[i]));
        for (int64_t k = 0; k < b->feed[i]->count; k++)
            in[i][k] = onnx_float(b->feed[i], k);
    }
    *rc = session_open_graph(&session, &g, &o, NULL, why);
    if (*rc == 0)
        *rc = split_run(session, (const float *const *)in, out, NULL, why);
    if (*rc == 0 && g.noutputs != s->noutputs)
        *rc = diag(why, -ERANGE, "%d outputs, ONNX has %d", g.noutputs, s->noutputs);
    for (int i = 0; i < g.noutputs && *rc == 0; i++)
        *rc = compare(&g.output[i], out[i], &s->output[i].tensor, why);
    for (int i = 0; i < g.ninputs; i++)
        free(in[i]);
    split_close(session);
    graph_done(&g);
    if (*rc == 0)
        return all;
    free(all);
    return NULL;
}

/* Cuts change the order of some sums, no more. */
static int compare_cuts(const float *one, const float *three, size_t n, struct diag *why)
{
    double largest = 0;
    for (size_t i = 0; i < n; i++)
        largest = isfinite(one[i]) ? fmax(largest, fabs((double)one[i])) : largest;
    for (size_t i = 0; i < n; i++)
        if (memcmp(&one[i], &three[i], sizeof one[i]) != 0 &&
            !(fabs((double)one[i] - (double)three[i]) <= 1e-5 * largest))
            return diag(why, -ERANGE, "value %zu is %.9g on one node, %.9g on three", i,
                        (double)one[i], (double)three[i]);
    return 0;
}

/* On one node, and on three. */
static int run_bound(const struct bound *b, const struct data_set *s, struct diag *why)
{
    size_t values = 0;
    int rc = 0;
    float *one = run_on(b, 1, s, &values, &rc, why);
    if (!one)
        return rc;
    float *three = run_on(b, 3, s, &values, &rc, why);
    if (three)
        rc = compare_cuts(one, three, values, why);
    free(one);
    free(three);
    return rc;
}

/* What cannot be loaded with computed weights is tried with constant ones; of several refusals
 * the first tells most. */
static int run_bindings(const struct onnx_model *m, const struct data_set *s, enum binding *binding,
                        struct diag *why)
{
    if (m->ninputs > MAX_PORTS || s->ninputs != m->ninputs)
        return diag(why, -ERANGE, "%d inputs in the model, %d in its test data", m->ninputs,
                    s->ninputs);
    int rc = 0;
    for (int how = 0; how < BINDINGS; how++) {
        struct diag said = { "" };
        struct bound b;
        bind(m, s, (enum binding)how, &b);
        rc = run_bound(&b, s, &said);
        bound_done(&b);
        const bool refused = rc == -ENOTSUP || rc == -EINVAL;
        if (!refused || how == 0)
            *why = said;
        *binding = (enum binding)how;
        if (!refused)
            break;
    }
    return rc;
}

static int run_set(const struct onnx_model *m, const char *dir, enum binding *binding,
                   struct diag *why)
{
    struct data_set s = { .ninputs = 0 };
    int rc = load_set(dir, &s, why);
    if (rc == 0)
        rc = run_bindings(m, &s, binding, why);
    set_done(&s);
    return rc;
}

static int run_trial(const char *data, const char *name, enum binding *binding, struct diag *why)
{
    char path[PATH_BYTES];
    struct onnx_model m;
    int sets = 0;
    snprintf(path, sizeof path, "%s/%s/model.onnx", data, name);
    int rc = onnx_open(&m, path, why);
    if (rc < 0)
        return rc;
    for (; sets < MAX_SETS && rc == 0; sets++) {
        snprintf(path, sizeof path, "%s/%s/test_data_set_%d", data, name, sets);
        if (access(path, F_OK) != 0)
            break;
        rc = run_set(&m, path, binding, why);
    }
    onnx_close(&m);
    return rc == 0 && sets == 0 ? diag(why, -ENOENT, "it has no test data") : rc;
}

/* ---- all cases ---- */

static int by_name(const void *a, const void *b)
{
    const struct trial *x = a, *y = b;
    return strcmp(x->name, y->name);
}

static void find_trials(struct run *r)
{
    static const char *const group[] = { "node", "simple", "pytorch-converted",
                                         "pytorch-operator" };
    for (size_t i = 0; i < sizeof group / sizeof group[0]; i++) {
        char path[PATH_BYTES];
        snprintf(path, sizeof path, "%s/%s", r->data, group[i]);
        DIR *dir = opendir(path);
        struct dirent *e;
        while (dir && (e = readdir(dir)) != NULL) {
            if (e->d_name[0] == '.' || r->ntrials == MAX_CASES)
                continue;
            struct trial *t = &r->trial[r->ntrials++];
            snprintf(t->name, sizeof t->name, "%s/%s", group[i], e->d_name);
        }
        if (dir)
            closedir(dir);
    }
    qsort(r->trial, (size_t)r->ntrials, sizeof r->trial[0], by_name);
}

static struct trial *trial_named(struct run *r, const char *name)
{
    struct trial key;
    snprintf(key.name, sizeof key.name, "%s", name);
    return bsearch(&key, r->trial, (size_t)r->ntrials, sizeof r->trial[0], by_name);
}

/* Lines of EXCEPTIONS: "# comment", "cases 1072", "a reason", "  group/case".  Returns how
 * many cases are named that are not there, or twice. */
static int read_exceptions(struct run *r, const char *path)
{
    FILE *f = fopen(path, "r");
    size_t len = 0;
    if (!f || getdelim(&r->exceptions, &len, '\0', f) < 0) {
        fprintf(stderr, "conformance: %s: %s\n", path, strerror(errno));
        exit(2);
    }
    fclose(f);
    const char *reason = NULL;
    int mistakes = 0;
    char *rest = NULL;
    for (char *line = strtok_r(r->exceptions, "\n", &rest); line;
         line = strtok_r(NULL, "\n", &rest)) {
        if (line[0] == '#' || sscanf(line, "cases %d", &r->expected) == 1)
            continue;
        if (line[0] != ' ') {
            reason = line;
            if (r->nreasons < MAX_REASONS)
                r->reason[r->nreasons++] = line;
            continue;
        }
        const char *name = line + strspn(line, " ");
        struct trial *t = trial_named(r, name);
        if (t && reason && !t->reason) {
            t->reason = reason;
            continue;
        }
        if (r->ntrials != r->expected)
            continue; /* another release */
        printf("%s: %s is %s\n", path, name, t ? "named twice" : "no case");
        mistakes++;
    }
    return mistakes;
}

static void run_child(const struct run *r, int i)
{
    struct diag why = { "" };
    alarm(TIMEOUT_SECONDS);
    struct verdict *v = &r->verdict[i];
    v->passed = run_trial(r->data, r->trial[i].name, &v->binding, &why) == 0;
    snprintf(v->text, sizeof v->text, "%s", why.text);
    _exit(0);
}

/* Waits for one child and says what ended it, if that was no verdict. */
static void reap(const struct run *r, pid_t *job, int *case_of, int jobs)
{
    int status;
    const pid_t pid = wait(&status);
    for (int k = 0; k < jobs; k++) {
        if (job[k] != pid)
            continue;
        job[k] = 0;
        struct verdict *v = &r->verdict[case_of[k]];
        if (WIFSIGNALED(status)) {
            v->passed = false;
            snprintf(v->text, sizeof v->text, "%s",
                     WTERMSIG(status) == SIGALRM ? "timed out" : strsignal(WTERMSIG(status)));
        } else if (WEXITSTATUS(status) != 0) {
            v->passed = false;
            snprintf(v->text, sizeof v->text, "exit code %d", WEXITSTATUS(status));
        }
    }
}

static int free_slot(const pid_t *job, int jobs)
{
    for (int k = 0; k < jobs; k++)
        if (job[k] == 0)
            return k;
    return -1;
}

static void run_all(const struct run *r)
{
    pid_t job[MAX_JOBS] = { 0 };
    int case_of[MAX_JOBS];
    const long cpus = sysconf(_SC_NPROCESSORS_ONLN);
    const int jobs = cpus < 1 ? 1 : cpus > MAX_JOBS ? MAX_JOBS : (int)cpus;
    fflush(NULL);
    int running = 0;
    for (int i = 0; i < r->ntrials; i++) {
        while (free_slot(job, jobs) < 0) {
            reap(r, job, case_of, jobs);
            running--;
        }
        const pid_t pid = fork();
        if (pid == 0)
            run_child(r, i);
        if (pid < 0) {
            fprintf(stderr, "conformance: fork: %s\n", strerror(errno));
            exit(2);
        }
        const int k = free_slot(job, jobs);
        job[k] = pid;
        case_of[k] = i;
        running++;
    }
    for (; running > 0; running--)
        reap(r, job, case_of, jobs);
}

/* Names in lines of even length, indented. */
static void print_names(const struct run *r, const char *reason)
{
    int column = 0;
    for (int i = 0; i < r->ntrials; i++) {
        if (r->trial[i].reason != reason || r->verdict[i].passed)
            continue;
        const int len = (int)strlen(r->trial[i].name) + 1;
        if (column + len > LINE_COLUMNS || column == 0) {
            printf("%s   ", column ? "\n" : "");
            column = 3;
        }
        printf(" %s", r->trial[i].name);
        column += len;
    }
    printf("\n");
}

static int report(const struct run *r, int mistakes)
{
    int passed = 0, failed = mistakes, skipped = 0, as[BINDINGS] = { 0 };
    const bool known = r->ntrials == r->expected;
    if (!known)
        printf("%d cases, but the list of exceptions is for a release with %d: what it does not "
               "name may fail\n",
               r->ntrials, r->expected);
    for (int k = 0; k < r->nreasons; k++) {
        printf("%s\n", r->reason[k]);
        print_names(r, r->reason[k]);
    }
    for (int i = 0; i < r->ntrials; i++) {
        const struct trial *t = &r->trial[i];
        const struct verdict *v = &r->verdict[i];
        if (v->passed && t->reason && known) {
            printf("failed: %s passes, but is named as an exception: %s\n", t->name, t->reason);
            failed++;
        } else if (v->passed) {
            passed++;
            as[v->binding]++;
        } else if (t->reason || !known) {
            skipped++;
        } else {
            printf("failed: %s: %s\n", t->name, v->text);
            failed++;
        }
    }
    printf("passed on one node and on three: %d as they stand, %d with weights as constants, %d "
           "computed at load\n",
           as[BIND_NUMBERS], as[BIND_WEIGHTS], as[BIND_ALL]);
    printf("%d passed, %d failed, %d skipped\n", passed, failed, skipped);
    return failed ? 1 : 0;
}

/* The cases named on the command line, in this process, for a debugger. */
static int run_named(const struct run *r, int n, char **name)
{
    int failed = 0;
    for (int i = 0; i < n; i++) {
        struct diag why = { "" };
        enum binding binding;
        const int rc = run_trial(r->data, name[i], &binding, &why);
        printf("%s: %s\n", name[i], rc == 0 ? "passed" : why.text);
        failed += rc != 0;
    }
    printf("%d passed, %d failed\n", n - failed, failed);
    return failed ? 1 : 0;
}

int main(int argc, char **argv)
{
    static struct run r;
    if (argc < 3) {
        fprintf(stderr, "usage: conformance DATA EXCEPTIONS [GROUP/CASE...]\n");
        return 2;
    }
    r.data = argv[1];
    if (argc > 3)
        return run_named(&r, argc - 3, argv + 3);
    find_trials(&r);
    if (r.ntrials == 0) {
        printf("conformance: no cases in %s (Debian's libonnx-testdata): skipped\n", r.data);
        printf("0 passed, 0 failed, 1 skipped\n");
        return 0;
    }
    const int mistakes = read_exceptions(&r, argv[2]);
    r.verdict = mmap(NULL, (size_t)r.ntrials * sizeof *r.verdict, PROT_READ | PROT_WRITE,
                     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (r.verdict == MAP_FAILED) {
        fprintf(stderr, "conformance: mmap: %s\n", strerror(errno));
        return 2;
    }
    run_all(&r);
    const int rc = report(&r, mistakes);
    free(r.exceptions);
    return rc;
}
