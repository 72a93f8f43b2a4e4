#include "daemon/trial.h"

static const double least_gain = 1.05, clearly_slower = 1.5;

void trial_begin(struct trial *t, uint32_t within)
{
    static const enum halo ways[TRIAL_WAYS] = { HALO_TQ, HALO_F32, HALO_F16, HALO_Q8, HALO_Q4 };

    within |= halo_bit(HALO_TQ) | halo_bit(HALO_F32) | halo_bit(HALO_F16);
    *t = (struct trial){ 0 };
    for (int32_t i = 0; i < TRIAL_WAYS; i++)
        if (within & halo_bit(ways[i]))
            t->way[t->n++].halo = ways[i];
}

int64_t trial_ns(const struct trial *t, int32_t i)
{
    const struct trial_way *w = &t->way[i];
    const int32_t aside = w->timed / 6;
    int64_t sum = 0;
    for (int32_t k = aside; k < w->timed - aside; k++)
        sum += w->ns[k];
    return w->timed > 0 ? sum / (w->timed - 2 * aside) : 0;
}

/* The fastest of those that were tried, -1: no time is known. */
static int32_t fastest(const struct trial *t)
{
    int32_t best = -1;
    for (int32_t i = 0; i < t->at; i++)
        if (trial_ns(t, i) > 0 && (best < 0 || trial_ns(t, i) < trial_ns(t, best)))
            best = i;
    return best;
}

enum halo trial_halo(const struct trial *t)
{
    if (!trial_over(t))
        return t->way[t->at].halo;
    const int32_t best = fastest(t);
    const double first = (double)trial_ns(t, 0);
    /* Nothing beats what nobody could time. */
    return best > 0 && first > least_gain * (double)trial_ns(t, best) ? t->way[best].halo
                                                                      : t->way[0].halo;
}

static void insert(struct trial_way *w, int64_t ns)
{
    int32_t at = w->timed++;
    for (; at > 0 && w->ns[at - 1] > ns; at--)
        w->ns[at] = w->ns[at - 1];
    w->ns[at] = ns;
}

static bool is_slow(const struct trial *t, const struct trial_way *w)
{
    const int32_t best = fastest(t);
    return w->timed >= TRIAL_SLOW && best >= 0 &&
           (double)w->ns[0] > clearly_slower * (double)trial_ns(t, best);
}

bool trial_frame(struct trial *t, int64_t ns)
{
    struct trial_way *w = &t->way[t->at];

    w->frames++;
    if (ns > 0 && w->frames > TRIAL_WARM)
        insert(w, ns);
    if (w->timed < TRIAL_FRAMES && w->frames < TRIAL_MOST && !is_slow(t, w))
        return false;
    if (w->timed < TRIAL_SLOW) /* one time is none */
        w->timed = 0;
    t->at++;
    return true;
}

void trial_skip(struct trial *t)
{
    t->way[t->at].timed = 0;
    t->at++;
}
