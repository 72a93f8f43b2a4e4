/* What is announced on the network: whatever is taken is a name and an address. */
#include <stdlib.h>
#include <string.h>

#include "cli/discover.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void expect(bool holds)
{
    if (!holds)
        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const char name[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
    static struct discovery d;

    discover_parse(&d, (const char *)data, size);
    expect(d.n >= 0 && d.n <= CONFIG_MAX_NODES && d.ignored >= 0);
    for (int32_t i = 0; i < d.n; i++) {
        const struct discovered *n = &d.node[i];
        expect(memchr(n->name, 0, sizeof n->name) && memchr(n->host, 0, sizeof n->host));
        expect(n->name[0] && n->name[0] != '-' && n->name[strspn(n->name, name)] == '\0');
        expect(n->host[0] && n->host[strspn(n->host, "0123456789abcdef.:[]")] == '\0');
        expect(strncmp(n->host, "127.", 4) != 0 && strcmp(n->host, "[::1]") != 0 &&
               strncmp(n->host, "[fe80:", 6) != 0);
        expect(i == 0 || strverscmp(n[-1].name, n->name) < 0);
    }
    return 0;
}
