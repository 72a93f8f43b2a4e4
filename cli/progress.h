/* cli/progress.h - a bar on stderr while several pictures are under way. */
#ifndef CLI_PROGRESS_H
#define CLI_PROGRESS_H

#include <stdbool.h>

struct progress {
    bool shown; /* stderr is a terminal and there is more than one step */
    int done, total;
};

void progress_init(struct progress *p, int total);
/* Takes the bar off the line, so that something else can be printed there. */
void progress_hide(const struct progress *p);
void progress_step(struct progress *p); /* one more is done; draws */

#endif
