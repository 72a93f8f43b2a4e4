#include "cli/status.h"

#include <string.h>

int status_get(struct client *c, cJSON **status, struct diag *why)
{
    return client_get(c, "/splitd/status", status, why);
}

const char *status_text(const cJSON *o, const char *key)
{
    const char *text = cJSON_GetStringValue(cJSON_GetObjectItemCaseSensitive(o, key));
    return text ? text : "?";
}

double status_number(const cJSON *o, const char *key)
{
    return cJSON_GetNumberValue(cJSON_GetObjectItemCaseSensitive(o, key));
}

bool status_true(const cJSON *o, const char *key)
{
    return cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(o, key));
}

const cJSON *status_list(const cJSON *o, const char *key)
{
    return cJSON_GetObjectItemCaseSensitive(o, key);
}

const cJSON *status_figures(const cJSON *node, const char *model)
{
    const cJSON *f;
    cJSON_ArrayForEach(f, status_list(node, "models")) {
        if (strcmp(status_text(f, "model"), model) == 0)
            return f;
    }
    return NULL;
}

void status_add_rows(struct table *t, const cJSON *figures)
{
    const cJSON *rows = status_list(figures, "rows");
    const double lo = cJSON_GetNumberValue(cJSON_GetArrayItem(rows, 0));
    const double hi = cJSON_GetNumberValue(cJSON_GetArrayItem(rows, 1));

    if (hi > lo)
        table_add(t, "%.0f..%.0f of %.0f", lo, hi,
                  cJSON_GetNumberValue(cJSON_GetArrayItem(rows, 2)));
    else
        table_add(t, "-");
}

const char *status_of_model(const cJSON *model)
{
    const char *problem = status_text(model, "problem");

    if (problem[0] != '\0')
        return problem;
    return status_true(model, "ready") ? "ready" : "loading";
}
