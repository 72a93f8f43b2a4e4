#include "libsplit/tune.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "libsplit/clock.h"
#include "libsplit/conv.h"

enum { RUNS = 3, LINE = 64, KEY_BYTES = 256, NS_PER_MS = 1000000 };

/* More than the caches of one core and its share of what all use. */
enum { CACHE_BYTES = 64 << 20 };

/* Layers below this expected cost (multiplies and adds) cannot gain what measuring takes. */
static const double LEAST_COST = 20e6;
/* Ways that are expected to cost more than this many times the best are not tried. */
static const double FAR = 1.6;
/* What a way must gain to be taken in place of the expected one: measurements are noisy. */
static const double MARGIN = 1.05;

void graph_ways(const struct graph *g, uint8_t *ways)
{
    for (int32_t i = 0; i < g->nops; i++)
        ways[i] = g->op[i].type == OP_CONV ? g->op[i].u.conv.way : CONV_BY_COST;
}

/* The most rows of tensor `t` that a node computes. */
static int32_t most_rows(const struct plan *p, int32_t t)
{
    int32_t most = 0;
    for (int32_t n = 0; n < p->nodes; n++) {
        const int32_t rows = box_len(plan_share(p, t, n)->run, ROW);
        most = rows > most ? rows : most;
    }
    return most;
}

void graph_ways_of_plan(const struct graph *g, const struct plan *p, uint8_t *ways)
{
    const struct simd *simd = simd_best();
    graph_ways(g, ways);
    for (int32_t i = 0; i < g->nops; i++) {
        if (g->op[i].type != OP_CONV)
            continue;
        struct conv c = conv_of(g, &g->op[i]);
        const int32_t rows = most_rows(p, g->op[i].output);
        if (!conv_is_free(&c, simd) || rows == 0 || rows == c.out[ROW])
            continue;
        c.out[ROW] = rows;
        if (conv_cost(&c, simd, (enum conv_way)ways[i]) < LEAST_COST)
            continue; /* the bits of one node are worth more */
        /* Tiles of 4, 2 and 1 rows: what those of a way respect, those before it do, too. */
        const enum conv_way chosen = (enum conv_way)ways[i];
        for (enum conv_way way = CONV_DIRECT; way < chosen; way++)
            if (MARGIN * conv_cost(&c, simd, way) < conv_cost(&c, simd, (enum conv_way)ways[i]))
                ways[i] = (uint8_t)way;
    }
}

int graph_set_ways(struct graph *g, const uint8_t *ways, int32_t n)
{
    if (n != g->nops)
        return -EPROTO;
    for (int32_t i = 0; i < n; i++)
        if (ways[i] >= CONV_WAYS || (g->op[i].type != OP_CONV && ways[i] != CONV_BY_COST))
            return -EPROTO;
    return conv_choose_all(g, ways, conv_budget());
}

/* ---- One layer ---- */

/* A layer with maps of its own, and every way that is worth a try. */
struct trial {
    const struct graph *g;
    const struct simd *simd;
    struct conv conv;
    struct view in[2], out;
    float *scratch;
    void *packed[CONV_WAYS]; /* NULL: not tried */
    int64_t ns[CONV_WAYS];   /* the least so far */
};

static struct view make_map(const struct tensor *x)
{
    const struct box whole = box_whole(x->dim);
    const size_t values = (size_t)box_values(whole);
    struct view v = { .box = whole,
                      .pixel_stride = x->dim[CHAN],
                      .row_stride = (ptrdiff_t)x->dim[CHAN] * x->dim[COL],
                      .data = malloc((values + 1) * sizeof(float)) }; /* never of nothing */
    for (size_t i = 0; v.data && i < values; i++)
        v.data[i] = (float)(i % 251) / 256;
    return v;
}

static void trial_done(struct trial *t)
{
    for (enum conv_way way = CONV_DIRECT; way < CONV_WAYS; way++)
        if (t->packed[way]) {
            t->conv.way = way;
            conv_choose(&t->conv, t->simd)->release(t->packed[way]);
        }
    free(t->in[0].data);
    free(t->in[1].data);
    free(t->out.data);
    free(t->scratch);
}

/* Returns 0 or -ENOMEM; trial_done() frees in either case. */
static int trial_init(struct trial *t, const struct graph *g, const struct op *op)
{
    size_t scratch = 1;
    *t = (struct trial){ .g = g, .simd = simd_best(), .conv = conv_of(g, op) };
    const enum conv_way expected = t->conv.way;
    const double best = conv_cost(&t->conv, t->simd, expected);
    for (enum conv_way way = CONV_DIRECT; way < CONV_WAYS; way++) {
        t->conv.way = way;
        t->ns[way] = INT64_MAX;
        const struct conv_method *method = conv_choose(&t->conv, t->simd);
        if (way != expected && conv_cost(&t->conv, t->simd, way) > FAR * best)
            continue;
        const int err = method->prepare(&t->conv, t->simd, &t->packed[way]);
        if (err)
            return err;
        const size_t bytes = method->scratch_bytes(&t->conv, t->simd);
        scratch = bytes > scratch ? bytes : scratch;
    }
    t->conv.way = expected;
    for (int32_t i = 0; i < op->ninputs; i++)
        t->in[i] = make_map(&g->tensor[op->input[i]]);
    t->out = make_map(&g->tensor[op->output]);
    t->scratch = aligned_alloc(LINE, (scratch + LINE) / LINE * LINE);
    const bool made = t->in[0].data && (op->ninputs == 1 || t->in[1].data) && t->out.data;
    return made && t->scratch ? 0 : -ENOMEM;
}

/* Reads weights of the network, as a frame does between two runs of a layer, until what the layer
 * left in the caches is gone. */
static void pass_by(const struct graph *g)
{
    static volatile uint8_t sink;
    size_t left = CACHE_BYTES;
    for (int32_t i = 0; i < g->nops && left > 0; i++) {
        const struct onnx_tensor *w = g->op[i].type == OP_CONV ? g->op[i].u.conv.weight.t : NULL;
        const size_t bytes = !w ? 0 : w->bytes < left ? w->bytes : left;
        uint8_t sum = 0;
        for (size_t at = 0; at < bytes; at += LINE)
            sum ^= ((const uint8_t *)w->data)[at];
        sink = sum;
        (void)sink;
        left -= bytes;
        if (w && g->model)
            onnx_forget(g->model, w);
    }
}

static int64_t run_once(struct trial *t, enum conv_way way)
{
    struct conv c = t->conv;
    c.way = way;
    const struct kernel_call call = { .graph = t->g,
                                      .op = c.op,
                                      .in = t->in,
                                      .out = t->out,
                                      .region = t->out.box,
                                      .nodes = 1,
                                      .scratch = t->scratch };
    const int64_t start = clock_ns();
    conv_choose(&c, t->simd)->run(&c, t->simd, t->packed[way], &call);
    return clock_ns() - start;
}

/* The fastest way of operator `op`; that which is expected where time runs out first.  Returns it
 * or -ENOMEM. */
static int measure(const struct graph *g, const struct op *op, int64_t deadline)
{
    struct trial t;
    const enum conv_way expected = (enum conv_way)op->u.conv.way;
    enum conv_way best = expected;
    int err = trial_init(&t, g, op);
    for (int run = 0; !err && run < RUNS; run++)
        for (enum conv_way way = CONV_DIRECT; way < CONV_WAYS; way++) {
            if (!t.packed[way] || clock_ns() > deadline)
                continue;
            pass_by(g);
            const int64_t ns = run_once(&t, way);
            t.ns[way] = ns < t.ns[way] ? ns : t.ns[way];
        }
    if (!err && clock_ns() <= deadline)
        for (enum conv_way way = CONV_DIRECT; way < CONV_WAYS; way++)
            if (t.packed[way] && MARGIN * (double)t.ns[way] < (double)t.ns[expected] &&
                t.ns[way] < t.ns[best])
                best = way;
    trial_done(&t);
    return err ? err : (int)best;
}

/* ---- Results on disk: a line that says for what, then a digit per operator ---- */

static uint64_t mix(uint64_t hash, uint64_t value)
{
    return (hash ^ value) * UINT64_C(0x100000001b3); /* FNV-1a, by words */
}

/* The kind of processor, as the kernel names it; "" where it does not. */
static void processor(char *to, size_t cap)
{
    char line[KEY_BYTES];
    FILE *f = fopen("/proc/cpuinfo", "re");
    to[0] = '\0';
    while (f && fgets(line, sizeof line, f)) {
        /* x86; ARM, where the part's number is all there is */
        if (strncmp(line, "model name", 10) != 0 && strncmp(line, "CPU part", 8) != 0)
            continue;
        line[strcspn(line, "\n")] = '\0';
        snprintf(to, cap, "%.64s", strchr(line, ':') ? strchr(line, ':') + 1 : line);
        break;
    }
    if (f)
        fclose(f);
}

/* Network, instruction set and processor.  Names of models change, shapes of layers count. */
static void make_key(const struct graph *g, char key[KEY_BYTES])
{
    uint64_t hash = UINT64_C(0xcbf29ce484222325);
    char cpu[KEY_BYTES / 2];
    for (int32_t i = 0; i < g->nops; i++) {
        const struct op *op = &g->op[i];
        hash = mix(hash, (uint64_t)op->type);
        if (op->type != OP_CONV)
            continue;
        const struct conv c = conv_of(g, op);
        const int32_t about[] = {
            c.win.kernel[ROW], c.win.kernel[COL], c.win.stride[ROW], c.group, c.cin, c.cout,
            c.out[ROW],        c.out[COL],        op->ninputs
        };
        for (size_t k = 0; k < sizeof about / sizeof *about; k++)
            hash = mix(hash, (uint64_t)about[k]);
    }
    processor(cpu, sizeof cpu);
    snprintf(key, KEY_BYTES, "splitd %s tiles %016" PRIx64 " %s%s", SPLITD_VERSION, hash,
             simd_best()->name, cpu);
}

/* Fills `ways` from the file.  Returns whether it holds those of `key`. */
static bool load_ways(const char *file, const char *key, uint8_t *ways, int32_t n)
{
    char line[KEY_BYTES + 1];
    FILE *f = fopen(file, "re");
    bool sound = f && fgets(line, sizeof line, f) != NULL;
    if (sound)
        line[strcspn(line, "\n")] = '\0';
    sound = sound && strcmp(line, key) == 0;
    for (int32_t i = 0; sound && i < n; i++) {
        const int digit = fgetc(f);
        sound = digit >= '0' && digit < '0' + CONV_WAYS;
        ways[i] = (uint8_t)(digit - '0');
    }
    if (f)
        fclose(f);
    return sound;
}

static void save_ways(const char *file, const char *key, const uint8_t *ways, int32_t n)
{
    FILE *f = fopen(file, "we");
    if (!f)
        return;
    fprintf(f, "%s\n", key);
    for (int32_t i = 0; i < n; i++)
        fputc('0' + ways[i], f);
    fputc('\n', f);
    if (fclose(f) != 0)
        (void)remove(file);
}

/* ---- All layers ---- */

/* Is there a choice that can matter? */
static bool is_worth(const struct graph *g, const struct op *op)
{
    if (op->type != OP_CONV)
        return false;
    const struct conv c = conv_of(g, op);
    return conv_is_free(&c, simd_best()) &&
           conv_cost(&c, simd_best(), (enum conv_way)op->u.conv.way) >= LEAST_COST;
}

/* Layers that are alike are measured once.  Returns the operator before `i` that is, or -1. */
static int32_t twin_of(const struct graph *g, int32_t i)
{
    const struct conv c = conv_of(g, &g->op[i]);
    for (int32_t k = 0; k < i; k++) {
        if (!is_worth(g, &g->op[k]))
            continue;
        const struct conv other = conv_of(g, &g->op[k]);
        if (other.cin == c.cin && other.cout == c.cout && other.keep == c.keep &&
            other.in[ROW] == c.in[ROW] && other.in[COL] == c.in[COL] &&
            other.out[ROW] == c.out[ROW] && other.out[COL] == c.out[COL])
            return k;
    }
    return -1;
}

static int measure_all(const struct graph *g, int64_t limit_ms, uint8_t *ways)
{
    const int64_t deadline = clock_ns() + limit_ms * NS_PER_MS;
    for (int32_t i = 0; i < g->nops; i++) {
        if (!is_worth(g, &g->op[i]))
            continue;
        const int32_t twin = twin_of(g, i);
        const int way = twin >= 0 ? ways[twin] : measure(g, &g->op[i], deadline);
        if (way < 0)
            return way;
        ways[i] = (uint8_t)way;
    }
    return 0;
}

int graph_tune(struct graph *g, const struct tune_options *o)
{
    char key[KEY_BYTES];
    uint8_t *ways = calloc((size_t)g->nops + 1, 1);
    int32_t changed = 0;
    if (!ways)
        return -ENOMEM;
    make_key(g, key);
    int err = 0;
    if (!o->cache || !load_ways(o->cache, key, ways, g->nops)) {
        graph_ways(g, ways);
        err = measure_all(g, o->limit_ms, ways);
        if (!err && o->cache)
            save_ways(o->cache, key, ways, g->nops);
    }
    for (int32_t i = 0; i < g->nops && !err; i++)
        changed += g->op[i].type == OP_CONV && g->op[i].u.conv.way != ways[i];
    if (!err)
        err = graph_set_ways(g, ways, g->nops);
    free(ways);
    return err == -EPROTO ? 0
           : err < 0      ? err
                          : changed; /* a cache of another kind counts for nothing */
}
