#include "rule.h"

bool rule_reads(const struct rule *r, int32_t out, int32_t in)
{
    switch (r->kind) {
    case RULE_SAME:
        return in == out;
    case RULE_ALL:
        return true;
    case RULE_WINDOW:
        for (int32_t k = 0; k < r->kernel; k++)
            if (in == out * r->stride - r->pad + k * r->dilation)
                return true;
        return false;
    case RULE_TRANSPOSED:
        for (int32_t k = 0; k < r->kernel; k++)
            if (out == in * r->stride - r->pad + k * r->dilation)
                return true;
        return false;
    case RULE_SHIFT:
        return in == out * r->step + r->offset;
    case RULE_UP:
        return in == out / r->factor;
    case RULE_DOWN:
        return in / r->factor == out;
    }
    return false;
}

struct reach rule_reach(const struct rule *r)
{
    switch (r->kind) {
    case RULE_SAME:
        return reach_same();
    case RULE_ALL:
        return reach_all(r->len);
    case RULE_WINDOW:
        return reach_window(r->kernel, r->stride, r->dilation, r->pad);
    case RULE_TRANSPOSED:
        return reach_transposed(r->kernel, r->stride, r->dilation, r->pad);
    case RULE_SHIFT:
        return reach_shift(r->offset, r->step);
    case RULE_UP:
        return reach_up(r->factor);
    case RULE_DOWN:
        return reach_down(r->factor);
    }
    return reach_same();
}
