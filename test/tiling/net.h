/* test/tiling/net.h - random networks, each operator with its definition beside its reach. */
#ifndef TEST_TILING_NET_H
#define TEST_TILING_NET_H

#include "rng.h"
#include "rule.h"
#include "tiling/plan.h"

enum { NET_MAX_TENSORS = 64, NET_MAX_INPUTS = 192, NET_MAX_LEN = 64 };

struct net {
    struct geometry g;
    struct rule rule[NET_MAX_INPUTS][AXES]; /* of geometry.input[] */
    bool sums[NET_MAX_TENSORS];             /* operator whose inputs' values add up in any order */
    int64_t at[NET_MAX_TENSORS + 1];        /* first value of a tensor when all lie in one array */
};

/* A network of random operators: chains and branches of convolutions, pools, sums, concats,
 * slices, resampling, reductions, one-row tails.  net_done() frees. */
void net_random(struct net *net, struct rng *r, int32_t nodes);
void net_done(struct net *net);

/* For networks made by hand.  Call net_finish() last; tensors that nobody reads become
 * outputs. */
void net_init(struct net *net, int32_t nodes);
int32_t net_input(struct net *net, int32_t rows, int32_t cols, int32_t chans);
/* Square convolution without change of the number of channels; padded on all sides. */
int32_t net_conv(struct net *net, int32_t in, int32_t kernel, int32_t stride, int32_t pad,
                 int64_t weight_bytes);
/* The same, stride 1, with as many rows as before and any number of channels; `depthwise`: each
 * channel from the one of the same number. */
int32_t net_conv_to(struct net *net, int32_t in, int32_t kernel, int32_t chans, bool depthwise);
/* The sum over rows and columns, one value a channel: two operators. */
int32_t net_reduce(struct net *net, int32_t in);
/* A layer that reads all of `in`, with one row and column and the same channels. */
int32_t net_dense(struct net *net, int32_t in, int64_t weight_bytes);
/* Elementwise with two operands, equal in shape or broadcast. */
int32_t net_binary(struct net *net, int32_t a, int32_t b);
void net_finish(struct net *net);

/* Random options for `nodes` nodes: weights, PLAN_WHOLE now and then, rows and channels, any
 * legal cuts, all policies and any tensors recomputed.  The options keep `seed`. */
struct plan_options net_options(struct rng *r, int32_t nodes, uint64_t *seed);

#endif
