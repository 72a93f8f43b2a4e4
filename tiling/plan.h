/* tiling/plan.h - which node owns, computes and receives which part of every tensor.
 *
 * A plan is a pure function of the geometry and the options.  For every tensor t and
 * node n it holds four boxes:
 *
 *   part   the part that falls to n: its band of rows or of channels; disjoint over the
 *          nodes without the host, together the whole tensor.  It is what n contributes to a
 *          GEO_PARTIAL
 *   own    the part n sends to others: part, but the host owns all of the network's inputs
 *   run    the part n computes, own or more: a recomputed tensor is computed by whoever reads
 *          it, so that no node sends it to another
 *   want   the part n's own operators read, and, for the host, what it asked for
 *
 * and from them the transfers: want minus run, each piece sent by its owner.  The host
 * (the process that holds the picture and collects the answer) is node number
 * plan->nodes: it owns the network's inputs, computes nothing, wants its outputs. */
#ifndef TILING_PLAN_H
#define TILING_PLAN_H

#include "tiling/geometry.h"
#include "tiling/halo.h"

enum { PLAN_MAX_NODES = 16 };

enum plan_placement {
    PLAN_ROWS,  /* every node a band of rows, in proportion to its weight */
    PLAN_WHOLE, /* everything on node `whole` */
    PLAN_MIXED, /* of every tensor bands of rows or of channels: tiling/placement.h */
};

/* What a node does about values that it reads and does not own: tiling/choose.h. */
enum plan_policy {
    PLAN_AUTO,      /* whatever costs less, for every tensor */
    PLAN_EXCHANGE,  /* receives them; but one-row tensors behind a reduction run everywhere */
    PLAN_RECOMPUTE, /* computes them from the inputs of the network, from partial sums at most */
};
/* "auto", "exchange" or "recompute". */
const char *plan_policy_name(enum plan_policy p);
/* The policy of that name, or -EINVAL. */
int plan_policy_parse(const char *name);

/* What PLAN_MIXED and PLAN_AUTO weigh against each other, each 0..1000000; 0 stands for the
 * default, which is about a Raspberry Pi 4 with all cores at work, on gigabit Ethernet. */
struct plan_costs {
    int32_t macs_per_us;         /* 20000 */
    int32_t weight_bytes_per_us; /* 4000: weights come from memory in every frame */
    int32_t link_bytes_per_us;   /* 100, into a node and at the same time out of it */
    int32_t message_us;          /* 200, whatever the size: both ends handle it, then it is there */
};

struct plan_options {
    enum plan_placement placement;
    int32_t nodes;                  /* 1..PLAN_MAX_NODES, equal to geometry.nodes */
    int32_t weight[PLAN_MAX_NODES]; /* relative speed, 1..1000000 */
    int32_t usual_weight;           /* of the node that `costs` are about; 0: the average */
    /* Nodes, a bit each, that have other work besides, as a coordinator's has: where bands of rows
     * differ although weights do not, they get those with less to do. */
    uint32_t busy;
    int32_t whole; /* PLAN_WHOLE: the node, 0..nodes-1 */
    enum plan_policy policy;
    struct plan_costs costs;
    bool pixels;    /* the host sends inputs as bytes, not floats */
    enum halo halo; /* of what nodes send each other; 0 is exact */
    /* enum halo of every tensor, in place of `halo`; NULL: none.  Outlives the plan. */
    const uint8_t *tensor_halo;
    /* Of which tensors no node is to hold a part of a pixel's channels: they are cut by rows alone
     * where the plan chooses.  [ntensors]; NULL: none. */
    const bool *whole_pixels;
    /* Of which tensors a node that computes rows may do without the rows beside them that others
     * compute: see plan_may_miss().  [ntensors]; NULL: none.  Outlives the plan. */
    const bool *may_miss;
    /* First row (or channel) of band n of `len` of them is cut(len, n), 0 <= n <= nodes; NULL:
     * in proportion to the weights (at whole vectors of channels).  For tests: any function that
     * rises from 0 to `len` is legal, any other -EINVAL. */
    int32_t (*cut)(void *ctx, int32_t tensor, int32_t len, int32_t n);
    void *cut_ctx;
    /* PLAN_MIXED: the axis that `tensor` is cut along, ROW or CHAN, any other -EINVAL; NULL:
     * the one that costs less.  For tests; `ctx` is cut_ctx. */
    enum axis (*along)(void *ctx, int32_t tensor);
    /* In place of the policy: is `tensor` recomputed?  Inputs of the network and the shares of a
     * reduction never are.  For tests; `ctx` is cut_ctx. */
    bool (*recompute)(void *ctx, int32_t tensor);
};

/* One message: box of `tensor` from its owner to a node that reads it.  The index in
 * plan.transfer[] names it on the wire. */
struct plan_transfer {
    int32_t tensor;
    int16_t from, to; /* node, or plan.nodes for the host */
    struct box box;
};

struct plan_share {
    struct box part, own, run, want;
};

struct plan {
    const struct geometry *geo; /* borrowed; outlives the plan */
    int32_t nodes;
    enum halo halo; /* of the options; plan_halo() says what it means for a transfer */
    const uint8_t *tensor_halo;
    const bool *may_miss; /* of the options, too */
    int32_t ntransfers;
    struct plan_share *share; /* [tensor][node], nodes + 1 to a row: use plan_share() */
    bool *recomputed;         /* [tensor] */
    struct plan_transfer *transfer;
};

static inline const struct plan_share *plan_share(const struct plan *p, int32_t tensor,
                                                  int32_t node)
{
    return &p->share[(int64_t)tensor * (p->nodes + 1) + node];
}

/* The first of `len` rows or channels that band `n` holds when they are cut in proportion to
 * `weight[0..nodes)`; band n is [cut(n), cut(n + 1)).  0 <= n <= nodes; weights
 * as in plan_options. */
int32_t plan_cut(const int32_t *weight, int32_t nodes, int32_t len, int32_t n);
/* The same, moved to the nearest multiple of `align` (>= 1); 0 and `len` stay. */
int32_t plan_cut_aligned(const int32_t *weight, int32_t nodes, int32_t len, int32_t n,
                         int32_t align);

/* Returns 0, -EINVAL (an option is out of range) or -ENOMEM.  On success plan_done() frees. */
int plan_build(struct plan *p, const struct geometry *g, const struct plan_options *o);
void plan_done(struct plan *p);

/* How exactly the values of a transfer travel. */
enum halo plan_halo(const struct plan *p, const struct plan_transfer *m);
/* May its receiver go on without it, with values made up from its own rows, when it is late?  Only
 * what one node sends another of a tensor of options.may_miss that both hold bands of rows of, when
 * it is rows beside the receiver's own: of a tensor that the receiver gathers whole there is
 * nothing that a row of its own could stand for, and a part of a sum is no row. */
bool plan_may_miss(const struct plan *p, const struct plan_transfer *m);

/* What `node` (not the host) reads of input `i` of `op` to compute its run box. */
struct box plan_reads(const struct plan *p, int32_t op, int32_t i, int32_t node);

/* The invariant of every plan: owned boxes are disjoint and cover their tensor; run holds
 * own, and of a recomputed tensor want; everything an operator reads to compute its run box is in
 * run or received, exactly once; every transfer comes from its owner.  Returns 0 or -EPROTO, with
 * the first broken tensor in `*tensor` (may be NULL). */
int plan_check(const struct plan *p, int32_t *tensor);

/* Values that cross between nodes, and between nodes and the host, for one frame. */
struct plan_traffic {
    int64_t halo_values, halo_messages;
    int64_t host_values, host_messages;
};
void plan_traffic(const struct plan *p, struct plan_traffic *t);

/* Microseconds for a frame by the costs of `o`, from which the plan was built: a rough figure
 * (tiling/cost.h) to compare plans of one network by. */
double plan_estimate_us(const struct plan *p, const struct plan_options *o);

/* The most that the plan can speed up a frame over one node when messages cost nothing and nodes
 * are equally fast: all multiply-adds of the network over the sum, for every operator, of those
 * of the busiest node. */
double plan_bound(const struct plan *p);

#endif
