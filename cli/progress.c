#include "cli/progress.h"

#include <stdio.h>
#include <unistd.h>

static const int bar_columns = 30;

static void draw(const struct progress *p)
{
    const int filled = (int)((long)bar_columns * p->done / p->total);

    fputs("\r[", stderr);
    for (int i = 0; i < bar_columns; i++)
        fputc(i < filled ? '#' : '.', stderr);
    fprintf(stderr, "] %d of %d", p->done, p->total);
    fflush(stderr);
}

void progress_init(struct progress *p, int total)
{
    *p = (struct progress){ .shown = total > 1 && isatty(STDERR_FILENO), .total = total };
    if (p->shown)
        draw(p);
}

void progress_hide(const struct progress *p)
{
    if (p->shown) {
        fputs("\r\033[K", stderr);
        fflush(stderr);
    }
}

void progress_step(struct progress *p)
{
    p->done++;
    if (p->done == p->total)
        progress_hide(p);
    else if (p->shown)
        draw(p);
}
