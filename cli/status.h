/* cli/status.h - what a coordinator says of itself at /splitd/status (daemon/api.h). */
#ifndef CLI_STATUS_H
#define CLI_STATUS_H

#include <cjson/cJSON.h>
#include <stdbool.h>

#include "cli/client.h"
#include "cli/table.h"

/* cJSON_Delete() `*status` on 0; errors as those of client_get(). */
int status_get(struct client *c, cJSON **status, struct diag *why);

/* A member of an object: "?" where there is no such text, NaN where there is no such number. */
const char *status_text(const cJSON *o, const char *key);
double status_number(const cJSON *o, const char *key);
bool status_true(const cJSON *o, const char *key);
/* A list, for cJSON_ArrayForEach(). */
const cJSON *status_list(const cJSON *o, const char *key);

/* The figures of `model` in what is said of a node, NULL if there are none. */
const cJSON *status_figures(const cJSON *node, const char *model);

/* The cell "12..24 of 56" of the rows in such figures, "-" where nothing is cut. */
void status_add_rows(struct table *t, const cJSON *figures);

/* "ready", "loading", or what is wrong with a model. */
const char *status_of_model(const cJSON *model);

#endif
