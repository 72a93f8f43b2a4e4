/* test/libsplit/net.h - networks made by hand, and what they should answer.
 *
 * A net is a struct graph without a model: tests add operators one by one, weights are random
 * floats on the heap.  net_reference() computes every tensor in double precision with the
 * plainest loops possible, sharing no code with the kernels. */
#ifndef TEST_LIBSPLIT_NET_H
#define TEST_LIBSPLIT_NET_H

#include "libsplit/graph.h"

enum { NET_MAX_OPS = 64, NET_MAX_OWNED = 512, NET_MAX_PORTS = 16 };

struct net {
    struct graph g;
    struct tensor tensor[2 * NET_MAX_OPS];
    struct op op[NET_MAX_OPS];
    struct port in[NET_MAX_PORTS], out[NET_MAX_PORTS];
    void *owned[NET_MAX_OWNED];
    int32_t nowned;
    uint64_t random;
};

void net_init(struct net *n, uint64_t seed);
void net_done(struct net *n);

uint32_t net_random(struct net *n, uint32_t below);         /* 0..below-1 */
int32_t net_between(struct net *n, int32_t lo, int32_t hi); /* lo..hi */
/* `count` values in [-1, 1), owned by the net. */
float *net_floats(struct net *n, int64_t count);

/* Tensors are named by number.  Each returns its output. */
int32_t net_input(struct net *n, int32_t rows, int32_t cols, int32_t channels, int32_t batch);
void net_output(struct net *n, int32_t tensor);

/* Adds an operator that yields `dim` (rows, columns, channels), batch of its first input;
 * the caller fills in op->u.  The operator is n->op[n->g.nops - 1]. */
struct op *net_op(struct net *n, enum op_type type, int32_t ninputs, const int32_t *input,
                  int32_t rows, int32_t cols, int32_t channels);

/* The same on both axes. */
struct window net_window(int32_t kernel, int32_t stride, int32_t pad);

/* Output extent of a window on an axis of `len`; below 1 if it does not fit. */
int32_t net_window_out(const struct window *w, enum axis a, int32_t len);

/* With random weights in ONNX's order, and a bias in half of the cases. */
int32_t net_conv(struct net *n, int32_t in, int32_t cout, int32_t group, struct window w);
int32_t net_conv_transpose(struct net *n, int32_t in, int32_t cout, int32_t group, struct window w);
int32_t net_pool(struct net *n, int32_t in, enum op_type type, struct window w, bool include_pad);
/* OP_PARTIAL and OP_COMBINE. */
int32_t net_reduce(struct net *n, int32_t in, enum reduce_kind kind);
/* A random activation for the last operator. */
void net_activate(struct net *n);

/* Values of a tensor, all images. */
int64_t net_values(const struct net *n, int32_t tensor);

/* Every tensor in double precision, NHWC; inputs copied from `input`.  OP_PARTIAL outputs stay
 * NULL.  net_reference_done() frees. */
void net_reference(const struct net *n, const float *const *input, double **value);
void net_reference_done(const struct net *n, double **value);

#endif
