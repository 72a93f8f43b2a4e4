#include <criterion/criterion.h>
#include <errno.h>

#include "net.h"

Test(geometry, counts_are_capped)
{
    struct geometry g;
    cr_assert_eq(geometry_init(&g, 1, -1, 0, 0), -EINVAL);
    cr_assert_eq(geometry_init(&g, 1, GEO_MAX_TENSORS + 1, 0, 0), -EINVAL);
    cr_assert_eq(geometry_init(&g, 1, 1, -1, 0), -EINVAL);
    cr_assert_eq(geometry_init(&g, 1, 1, 2, 0), -EINVAL, "each operator yields a tensor");
    cr_assert_eq(geometry_init(&g, 1, 1, 1, -1), -EINVAL);
    cr_assert_eq(geometry_init(&g, 1, 1, 1, GEO_MAX_TENSORS * GEO_MAX_INPUTS + 1), -EINVAL);
    cr_assert_eq(geometry_init(&g, 1, 0, 0, 0), 0);
    cr_assert_eq(geometry_check(&g), 0);
    geometry_done(&g);
}

/* A picture, a convolution, a reduction over it: tensors 0 to 3, operators 0 to 2. */
static struct net small_net(void)
{
    struct net net;
    net_init(&net, 2);
    net_reduce(&net, net_conv(&net, net_input(&net, 8, 8, 3), 3, 1, 1, 100));
    net.g.op[0].nways = 1;
    net_finish(&net);
    return net;
}

/* Breaks one promise of small_net(). */
#define REFUSED(place, value)                                                                      \
    do {                                                                                           \
        struct net net = small_net();                                                              \
        struct geometry *g = &net.g;                                                               \
        (place) = (value);                                                                         \
        cr_assert_eq(geometry_check(g), -EINVAL, #place " = " #value);                             \
        net_done(&net);                                                                            \
    } while (0)

Test(geometry, every_broken_promise_is_found)
{
    REFUSED(g->nodes, 0);
    REFUSED(g->nodes, 3); /* the reduction was made for 2 */
    REFUSED(g->nops, 4);
    REFUSED(g->tensor[0].dim[COL], 0);
    REFUSED(g->tensor[0].dim[ROW], BOX_MAX_EXTENT + 1);
    REFUSED(g->tensor[0].dim[ROW], BOX_MAX_EXTENT); /* x 8 x 3 values */
    REFUSED(g->tensor[0].batch, 0);
    REFUSED(g->tensor[0].batch, INT32_MAX);
    REFUSED(g->tensor[0].op, 1);
    REFUSED(g->tensor[1].op, 3);
    REFUSED(g->tensor[1].op, -2);
    REFUSED(g->tensor[1].op, GEO_NO_OP);
    REFUSED(g->op[0].out, 4);
    REFUSED(g->op[0].out, -1);
    REFUSED(g->op[0].kind, 7);
    REFUSED(g->op[0].ninputs, -1);
    REFUSED(g->op[0].ninputs, GEO_MAX_INPUTS + 1);
    REFUSED(g->op[0].first, -1);
    REFUSED(g->op[2].first, 3);
    REFUSED(g->op[2].first, INT32_MAX);
    REFUSED(g->op[1].ninputs, 2); /* a partial reduction has one */
    REFUSED(g->op[0].weight_bytes, -1);
    REFUSED(g->op[0].macs, -1);
    REFUSED(g->op[0].nways, GEO_MAX_WAYS + 1);
    REFUSED(g->op[0].nways, -1);
    REFUSED(g->op[0].way[0].row_unit, -1);
    REFUSED(g->op[0].way[0].row_more, -1);
    REFUSED(g->op[0].way[0].work, -1);
    REFUSED(g->op[0].way[0].band_work, -1);
    REFUSED(g->op[0].way[0].weight_bytes, -1);
    REFUSED(g->input[0].tensor, 4);
    REFUSED(g->input[0].tensor, -1);
    REFUSED(g->input[0].tensor, 1); /* reads itself */
    REFUSED(g->input[0].tensor, 3); /* reads what is made later */
    REFUSED(g->input[0].reach[COL].den, 0);
}

Test(geometry, need_of_a_convolution)
{
    struct net net = small_net();
    const struct box out = { { 3, 0, 1 }, { 5, 8, 2 } }, want = { { 2, 0, 0 }, { 6, 8, 3 } };
    cr_assert(box_equal(geometry_need(&net.g, 0, 0, out), want));
    net_done(&net);
}
