/* cluster.json: whatever is taken keeps to what daemon/config.h says. */
#include <stdlib.h>
#include <string.h>

#include "daemon/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool holds)
{
    if (!holds)
        abort();
}

static bool ends(const char *text, size_t cap) { return memchr(text, 0, cap) != NULL; }

static void check(const struct config *c)
{
    expect(c->nnodes >= 1 && c->nnodes <= CONFIG_MAX_NODES);
    expect(c->coordinator >= 0 && c->coordinator < c->nnodes);
    expect(c->nmodels >= 0 && c->nmodels <= CONFIG_MAX_MODELS);
    expect(c->lost_ms >= 2 * c->heartbeat_ms && c->heartbeat_ms >= 10);
    expect(c->queue >= 1 && c->queue <= 4096);
    expect(c->http_port > 0 && ends(c->http_host, sizeof c->http_host));
    for (int32_t i = 0; i < c->nnodes; i++) {
        expect(c->node[i].name[0] && ends(c->node[i].name, sizeof c->node[i].name));
        expect(c->node[i].weight >= 1 && c->node[i].weight <= 1000);
        expect(c->node[i].max_memory >= 0);
        expect(config_threads(c, i) >= 1);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct config c;
    struct diag why = { "" };
    char *json = malloc(size + 1);

    if (!json)
        return 0;
    memcpy(json, data, size);
    json[size] = '\0';
    if (config_parse(&c, json, size, "cluster.json", &why) == 0)
        check(&c);
    else
        expect(why.text[0] != '\0');
    free(json);
    return 0;
}
