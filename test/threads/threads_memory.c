/* Plain program: what a session takes of the machine.  It holds what split_memory() says, within
 * 10 %, from loading to the last frame, and a frame allocates nothing and takes no page fault.
 * A sanitizer takes memory of its own: under one only the answers are computed.  Prints a line per
 * failure; exit 0 or 1. */
#include <malloc.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "../libsplit/net.h"
#include "libsplit/kernel.h"
#include "libsplit/session.h"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
enum { MEASURES = 0 };
static _Atomic int64_t allocations;
#else
enum { MEASURES = 1 };

/* The allocator of the C library, counted. */
void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t n, size_t bytes);
void *__libc_realloc(void *p, size_t bytes);
void *__libc_memalign(size_t align, size_t bytes);

static _Atomic int64_t allocations;

void *malloc(size_t bytes)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_malloc(bytes);
}

void *calloc(size_t n, size_t bytes)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_calloc(n, bytes);
}

void *realloc(void *p, size_t bytes)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_realloc(p, bytes);
}

void *aligned_alloc(size_t align, size_t bytes)
{
    atomic_fetch_add(&allocations, 1);
    return __libc_memalign(align, bytes);
}
#endif

enum { FRAMES = 5, MAX_PORTS = 16 };

/* First frames find code that has not run and stacks that have not grown. */
enum { FIRST_FAULTS = 100, LATER_FAULTS = 4 };

static int64_t status_kb(const char *key)
{
    char line[256];
    int64_t kb = -1;
    FILE *f = fopen("/proc/self/status", "r");
    while (f && kb < 0 && fgets(line, sizeof line, f))
        if (strncmp(line, key, strlen(key)) == 0)
            kb = strtoll(line + strlen(key) + 1, NULL, 10);
    if (f)
        fclose(f);
    return kb;
}

/* The peak begins again at what is held now. */
static void reset_peak(void)
{
    malloc_trim(0);
    FILE *f = fopen("/proc/self/clear_refs", "w");
    if (f) {
        fputs("5", f);
        fclose(f);
    }
}

static int64_t faults(void)
{
    struct rusage r;
    getrusage(RUSAGE_SELF, &r);
    return r.ru_minflt;
}

struct ports {
    float *in[MAX_PORTS], *out[MAX_PORTS];
};

static float *values_of(const struct port *p)
{
    const size_t n = (size_t)shape_values(&p->shape);
    float *v = malloc((n + 1) * sizeof(*v));
    for (size_t i = 0; v && i < n; i++)
        v[i] = (float)(i % 255) / 255;
    return v;
}

static int run_frames(const char *name, struct split_session *s, const struct ports *p)
{
    int fails = 0;
    for (int frame = 0; frame < FRAMES; frame++) {
        struct diag why = { "" };
        const int64_t fault = faults(), allocation = atomic_load(&allocations);
        if (split_run(s, (const float *const *)p->in, p->out, NULL, &why)) {
            printf("%s: %s\n", name, why.text);
            return 1;
        }
        const int64_t more = faults() - fault, news = atomic_load(&allocations) - allocation;
        if (MEASURES && news > 0)
            fails += printf("%s: %d allocations in frame %d\n", name, (int)news, frame) > 0;
        if (MEASURES && more > (frame == 0 ? FIRST_FAULTS : LATER_FAULTS))
            fails += printf("%s: %d page faults in frame %d\n", name, (int)more, frame) > 0;
    }
    return fails;
}

static int measure(const char *name, struct split_session *s, int64_t before_kb)
{
    const struct graph *g = split_graph(s);
    const struct split_memory m = split_memory(s);
    const int64_t said_kb = (m.weights + m.activations + m.messages) / 1024;
    struct ports p = { { 0 }, { 0 } };
    int64_t own_kb = 0;
    for (int32_t i = 0; i < g->ninputs; i++) {
        p.in[i] = values_of(&g->input[i]);
        own_kb += shape_values(&g->input[i].shape) * 4 / 1024;
    }
    for (int32_t i = 0; i < g->noutputs; i++) {
        p.out[i] = values_of(&g->output[i]);
        own_kb += shape_values(&g->output[i].shape) * 4 / 1024;
    }
    int fails = run_frames(name, s, &p);
    const int64_t took_kb = status_kb("VmHWM:") - before_kb - own_kb;
    const int64_t off = took_kb > said_kb ? took_kb - said_kb : said_kb - took_kb;
    printf("%s: %lld KB said, %lld KB taken\n", name, (long long)said_kb, (long long)took_kb);
    if (MEASURES && off > said_kb / 10)
        fails += printf("%s: more than a tenth apart\n", name) > 0;
    for (int i = 0; i < MAX_PORTS; i++) {
        free(p.in[i]);
        free(p.out[i]);
    }
    return fails;
}

/* ---- A network made here: every kind of convolution, weights larger than maps and smaller. */

static int32_t conv(struct net *n, int32_t in, int32_t cout, int32_t group, int32_t kernel,
                    int32_t stride)
{
    const int32_t pad = kernel / 2;
    return net_conv(
        n, in, cout, group,
        (struct window){
            { kernel, kernel }, { stride, stride }, { 1, 1 }, { pad, pad }, { pad, pad } });
}

static void made_net(struct net *n)
{
    net_init(n, 1);
    int32_t t = conv(n, net_input(n, 192, 192, 3, 1), 32, 1, 3, 2);
    t = conv(n, conv(n, t, 32, 32, 3, 1), 96, 1, 1, 1);
    t = conv(n, conv(n, t, 64, 1, 3, 2), 64, 1, 3, 1);
    t = conv(n, conv(n, t, 256, 1, 3, 2), 256, 1, 3, 1);
    t = conv(n, conv(n, t, 512, 1, 3, 2), 512, 1, 1, 1);
    net_output(n, conv(n, net_reduce(n, t, REDUCE_MEAN), 1000, 1, 1, 1));
}

static int made_fails(int32_t nodes, int32_t threads)
{
    char name[64];
    struct net n;
    struct split_session *s = NULL;
    struct diag why = { "" };
    struct plan_options o = { .placement = PLAN_ROWS, .nodes = nodes };
    const struct local_options local = { .threads = threads };
    for (int32_t i = 0; i < nodes; i++)
        o.weight[i] = 1;
    snprintf(name, sizeof name, "made, %d nodes, %d threads", nodes, threads);
    made_net(&n);
    reset_peak();
    const int64_t before_kb = status_kb("VmRSS:");
    int fails = 1;
    if (session_open_graph(&s, &n.g, &o, &local, &why))
        printf("%s: %s\n", name, why.text);
    else
        fails = measure(name, s, before_kb);
    split_close(s);
    graph_unpack(&n.g);
    net_done(&n);
    return fails > 0;
}

/* ---- A file: its pages must not stay. */

static int file_fails(const char *file, int32_t threads)
{
    struct split_model *m = NULL;
    struct split_session *s = NULL;
    struct diag why = { "" };
    const struct split_options o = { .threads = threads };
    reset_peak();
    const int64_t before_kb = status_kb("VmRSS:");
    int fails = 1;
    if (split_load(&m, file, &why) || split_open(&s, m, &o, &why))
        printf("%s\n", why.text);
    else
        fails = measure(file, s, before_kb);
    split_close(s);
    split_unload(m);
    return fails > 0;
}

int main(void)
{
    static const char *const files[] = { "../shared/models/mobilenetv2_1.0_224.onnx",
                                         "../shared/models/squeezenet1.1.onnx" };
    int failed = 0, passed = 0;
    for (int32_t threads = 1; threads <= 3; threads++)
        made_fails(threads == 3 ? 2 : 1, threads) ? failed++ : passed++;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        FILE *f = fopen(files[i], "rb");
        if (!f) {
            printf("%s is not here: skipped\n", files[i]);
            continue;
        }
        fclose(f);
        file_fails(files[i], 1 + (int32_t)i) ? failed++ : passed++;
    }
    if (MEASURES && atomic_load(&allocations) == 0) {
        printf("no allocation was counted, not even while loading\n");
        failed++;
    }
    printf("%d passed, %d failed\n", passed, failed);
    return failed > 0;
}
