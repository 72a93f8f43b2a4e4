/* cli/output.h - the files that commands write. */
#ifndef CLI_OUTPUT_H
#define CLI_OUTPUT_H

#include <stdbool.h>

#include "libsplit/diag.h"

enum { OUTPUT_PATH_MAX = 4096 };

bool output_is_dir(const char *path);

/* Ends in .png, .jpg or .jpeg, and is no folder. */
bool output_is_picture(const char *path);

/* Makes the folder, and those above it, unless it is there.  Returns 0 or an error of mkdir(2),
 * with `*why`. */
int output_make_dir(const char *path, struct diag *why);

/* "dir/<stem of source>[.<part>]<ending>", e.g. "out/cat.prob.npy"; slashes in the part after
 * "dir/" become '_'.  `part` may be NULL.  Returns 0 or -ENAMETOOLONG with `*why`. */
int output_name(char path[OUTPUT_PATH_MAX], const char *dir, const char *source, const char *part,
                const char *ending, struct diag *why);

/* Returns 0 if output_name() tells all sources apart, else -EINVAL with `*why`. */
int output_check_names(char *const *sources, int n, struct diag *why);

#endif
