#include <criterion/criterion.h>
#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/config.h"

#define GOOD_NODES                                                                                 \
    "\"nodes\":[{\"name\":\"pi1\",\"address\":\"tcp://127.0.0.1:7071\"},"                          \
    "{\"name\":\"pi2\",\"address\":\"ipc:///run/pi2\",\"weight\":3,\"threads\":5,"                 \
    "\"max_memory\":\"1.5GB\"}]"
#define HEAD "{\"cluster\":\"attic\",\"coordinator\":\"pi1\","

static int parse(struct config *c, const char *json, struct diag *why)
{
    return config_parse(c, json, strlen(json), "cluster.json", why);
}

/* `json` is refused with a sentence that names the file and holds `part`. */
static void refused(const char *json, const char *part)
{
    struct config c = { .queue = -7 };
    struct diag why = { "" };

    cr_assert_eq(parse(&c, json, &why), -EINVAL, "taken: %s", json);
    cr_expect_eq(c.queue, -7, "written although refused: %s", json);
    cr_expect_not_null(strstr(why.text, "cluster.json"), "\"%s\" names no file", why.text);
    cr_expect_not_null(strstr(why.text, part), "\"%s\" does not say \"%s\"", why.text, part);
}

Test(config, reads_every_setting)
{
    static struct config c;
    struct diag why;
    const char *json =
        HEAD GOOD_NODES ",\"models\":[{\"name\":\"net_1.x\",\"file\":\"/m/net.onnx\","
                        "\"sidecar\":\"/m/other.json\"}],"
                        "\"http\":{\"listen\":\"[::1]:8081\"},\"insecure\":true,"
                        "\"heartbeat_ms\":50,\"lost_ms\":100,\"request_timeout_ms\":1000,"
                        "\"halo\":\"q8\",\"policy\":\"exchange\",\"queue\":4,"
                        "\"late_halo\":\"conceal\",\"late_halo_ms\":7,"
                        "\"costs\":{\"macs_per_us\":1,\"weight_bytes_per_us\":2,"
                        "\"link_bytes_per_us\":3,\"message_us\":1000000}}\n";

    cr_assert_eq(parse(&c, json, &why), 0, "%s", why.text);
    cr_expect_str_eq(c.cluster, "attic");
    cr_expect_eq(c.coordinator, 0);
    cr_expect_eq(c.nnodes, 2);
    cr_expect_str_eq(c.node[0].name, "pi1");
    cr_expect_str_eq(c.node[0].address, "tcp://127.0.0.1:7071");
    cr_expect_eq(c.node[0].weight, 1);
    cr_expect_eq(c.node[0].max_memory, 0);
    cr_expect_eq(c.node[0].threads, 0);
    cr_expect_eq(c.node[1].weight, 3);
    cr_expect_eq(c.node[1].threads, 5);
    cr_expect_eq(c.node[1].max_memory, 1500000000);
    cr_expect_eq(c.nmodels, 1);
    cr_expect_str_eq(c.model[0].name, "net_1.x");
    cr_expect_str_eq(c.model[0].file, "/m/net.onnx");
    cr_expect_str_eq(c.model[0].sidecar, "/m/other.json");
    cr_expect_str_eq(c.http_host, "::1");
    cr_expect_eq(c.http_port, 8081);
    cr_expect(c.insecure);
    cr_expect_eq(c.heartbeat_ms, 50);
    cr_expect_eq(c.lost_ms, 100);
    cr_expect_eq(c.request_timeout_ms, 1000);
    cr_expect_eq(c.halo, HALO_Q8);
    cr_expect(c.conceal);
    cr_expect_eq(c.late_ms, 7);
    cr_expect_eq(c.policy, PLAN_EXCHANGE);
    cr_expect_eq(c.queue, 4);
    cr_expect_eq(c.costs.macs_per_us, 1);
    cr_expect_eq(c.costs.weight_bytes_per_us, 2);
    cr_expect_eq(c.costs.link_bytes_per_us, 3);
    cr_expect_eq(c.costs.message_us, 1000000);
}

Test(config, tls_allows_addresses_beyond_loopback)
{
    static struct config c;
    struct diag why;

    cr_assert_eq(parse(&c,
                       HEAD
                       "\"nodes\":[{\"name\":\"pi1\",\"address\":\"tcp://10.0.0.1:7071\"}],"
                       "\"http\":{\"listen\":\"0.0.0.0:8080\",\"token\":\"/t/token\"},"
                       "\"model_folder\":\"/m\","
                       "\"tls\":{\"ca\":\"/t/ca\",\"certificate\":\"/t/crt\",\"key\":\"/t/key\"}}",
                       &why),
                 0, "%s", why.text);
    cr_expect(c.secure);
    cr_expect_not(c.insecure);
    cr_expect_str_eq(c.tls.ca, "/t/ca");
    cr_expect_str_eq(c.tls.certificate, "/t/crt");
    cr_expect_str_eq(c.tls.key, "/t/key");
    cr_expect_str_eq(c.http_token, "/t/token");
    cr_expect_str_eq(c.model_folder, "/m");
}

Test(config, defaults_are_those_of_the_header)
{
    static struct config c;
    struct diag why;

    cr_assert_eq(parse(&c, HEAD GOOD_NODES "}", &why), 0, "%s", why.text);
    cr_expect_eq(c.nmodels, 0);
    cr_expect_str_eq(c.http_host, "127.0.0.1");
    cr_expect_eq(c.http_port, 8080);
    cr_expect_not(c.insecure);
    cr_expect_not(c.secure);
    cr_expect_str_eq(c.http_token, "");
    cr_expect_str_eq(c.model_folder, "");
    cr_expect_eq(c.heartbeat_ms, 100);
    cr_expect_eq(c.lost_ms, 300);
    cr_expect_eq(c.request_timeout_ms, 30000);
    cr_expect_eq(c.halo, HALO_AUTO);
    cr_expect_not(c.conceal);
    cr_expect_eq(c.late_ms, 50);
    cr_expect_eq(c.policy, PLAN_AUTO);
    cr_expect_eq(c.queue, 64);

    cr_assert_eq(parse(&c, HEAD GOOD_NODES ",\"halo\":\"auto\"}", &why), 0, "%s", why.text);
    cr_expect_eq(c.halo, HALO_AUTO, "said, not left out");
}

/* What the file does not say: the processors, shared fairly by the daemons of one machine. */
Test(config, threads_are_the_processors_by_default)
{
    static struct config c;
    struct diag why;
    cpu_set_t set;

    cr_assert_eq(sched_getaffinity(0, sizeof set, &set), 0);
    const int32_t all = CPU_COUNT(&set) < 64 ? CPU_COUNT(&set) : 64;
    cr_assert_eq(parse(&c,
                       HEAD "\"nodes\":[{\"name\":\"pi1\",\"address\":\"tcp://10.0.0.1:7071\"},"
                            "{\"name\":\"pi2\",\"address\":\"tcp://10.0.0.2:7071\"},"
                            "{\"name\":\"pi3\",\"address\":\"tcp://10.0.0.2:7072\"},"
                            "{\"name\":\"pi4\",\"address\":\"tcp://10.0.0.3:1\",\"threads\":3}],"
                            "\"insecure\":true}",
                       &why),
                 0, "%s", why.text);
    cr_expect_eq(config_threads(&c, 0), all);
    cr_expect_eq(config_threads(&c, 1), all > 1 ? all / 2 : 1);
    cr_expect_eq(config_threads(&c, 3), 3);
    cr_assert_eq(parse(&c, HEAD GOOD_NODES "}", &why), 0, "%s", why.text);
    cr_expect_eq(config_threads(&c, 0), all > 1 ? all / 2 : 1, "loopback and ipc are one machine");
    cr_expect_eq(config_threads(&c, 1), 5);
}

/* Nodes compare it to tell whether their files differ. */
Test(config, sha_is_of_the_bytes)
{
    static struct config c, other;
    struct diag why;

    cr_assert_eq(parse(&c, HEAD GOOD_NODES "}", &why), 0);
    cr_assert_eq(parse(&other, HEAD GOOD_NODES "} ", &why), 0);
    cr_expect_neq(memcmp(c.sha, other.sha, sizeof c.sha), 0);
    cr_assert_eq(parse(&other, HEAD GOOD_NODES "}", &why), 0);
    cr_expect_eq(memcmp(c.sha, other.sha, sizeof c.sha), 0);
}

static const struct {
    const char *json, *part;
} bad[] = {
    { "", ":1: not JSON" },
    { "{\n\"cluster\":\n}", ":3: not JSON" },
    { "[]", "expected an object" },
    { "{} {}", "after the end" },
    { "{}", "cluster: missing" },
    { "{\"cluster\":\"a\"}", "coordinator: missing" },
    { "{\"cluster\":\"a\",\"coordinator\":\"pi1\"}", "nodes: missing" },
    { "{\"cluster\":7,\"coordinator\":\"pi1\"," GOOD_NODES "}", "cluster: expected" },
    { "{\"cluster\":\"\",\"coordinator\":\"pi1\"," GOOD_NODES "}", "cluster: expected" },
    { HEAD GOOD_NODES ",\"colour\":1}",
      "colour: unknown setting; expected one of cluster, coordinator, " },
    { HEAD GOOD_NODES ",\"queue\":4,\"queue\":5}", "queue: set twice" },
    { HEAD GOOD_NODES ",\"halo\":\"q5\"}", "halo: expected \"f32\"" },
    { HEAD GOOD_NODES ",\"halo\":\"q5\"}", ", not \"q5\"" },
    { HEAD GOOD_NODES ",\"halo\":8}", "halo: expected" },
    { HEAD GOOD_NODES ",\"halo\":\"\"}", "\"drop\" or \"auto\"" },
    { HEAD GOOD_NODES ",\"late_halo\":\"drop\"}", "late_halo: expected \"wait\" or" },
    { HEAD GOOD_NODES ",\"late_halo\":true}", "late_halo: expected" },
    { HEAD GOOD_NODES ",\"late_halo_ms\":0}", "late_halo_ms: 0 is not a whole number in 1..10000" },
    { HEAD GOOD_NODES ",\"policy\":\"none\"}", "policy: expected \"auto\"" },
    { HEAD GOOD_NODES ",\"queue\":0}", "queue: 0 is not a whole number in 1..4096" },
    { HEAD GOOD_NODES ",\"queue\":1.5}", "queue: 1.5" },
    { HEAD GOOD_NODES ",\"queue\":1e99}", "queue: 1e+99" },
    { HEAD GOOD_NODES ",\"queue\":\"4\"}", "queue: expected" },
    { HEAD GOOD_NODES ",\"insecure\":1}", "insecure: expected true or false" },
    { HEAD GOOD_NODES ",\"heartbeat_ms\":200}", "lost_ms: 300 must be at least twice" },
    { HEAD GOOD_NODES ",\"http\":{\"listen\":\"8080\"}}", "http.listen" },
    { HEAD GOOD_NODES ",\"http\":{\"listen\":\"a:0\"}}", "http.listen" },
    { HEAD GOOD_NODES ",\"http\":{\"listen\":\"a:65536\"}}", "http.listen" },
    { HEAD GOOD_NODES ",\"http\":{\"listen\":\"a b:80\"}}", "http.listen" },
    { HEAD GOOD_NODES ",\"http\":{\"port\":80}}", "http.port: unknown" },
    { HEAD GOOD_NODES ",\"http\":{\"listen\":\"0.0.0.0:80\"}}",
      "http.listen: \"0.0.0.0\": not loop" },
    { HEAD GOOD_NODES ",\"http\":{\"token\":\"\"}}", "http.token: expected" },
    { HEAD GOOD_NODES ",\"tls\":true}", "expected an object" },
    { HEAD GOOD_NODES ",\"tls\":{\"ca\":\"a\",\"key\":\"b\"}}", "tls.certificate: missing" },
    { HEAD GOOD_NODES ",\"costs\":60}", "costs.: expected an object" },
    { HEAD GOOD_NODES ",\"costs\":{\"message_us\":0}}", "costs.message_us: 0 is not" },
    { HEAD GOOD_NODES ",\"costs\":{\"macs\":9}}", "costs.macs: unknown setting" },
    { HEAD GOOD_NODES ",\"http\":[]}", "expected an object" },
    { HEAD GOOD_NODES ",\"models\":{}}", "models: expected a list" },
    { HEAD GOOD_NODES ",\"models\":[{\"name\":\"a\"}]}", "models[0].file: missing" },
    { HEAD GOOD_NODES ",\"models\":[{\"name\":\"A\",\"file\":\"f\"}]}", "models[0].name: \"A\"" },
    { HEAD GOOD_NODES ",\"models\":[{\"name\":\"..\",\"file\":\"f\"}]}", "models[0].name" },
    { HEAD GOOD_NODES
      ",\"models\":[{\"name\":\"a\",\"file\":\"f\"},{\"name\":\"a\",\"file\":\"g\"}]}",
      "models[1].name: \"a\" is models[0] already" },
    { HEAD "\"nodes\":{}}", "nodes: expected a list" },
    { HEAD "\"nodes\":[]}", "nodes: 0 nodes, expected 1..16" },
    { HEAD "\"nodes\":[7]}", "nodes[0]." },
    { HEAD "\"nodes\":[{\"name\":\"pi1\"}]}", "nodes[0].address: missing" },
    { HEAD "\"nodes\":[{\"name\":\"p 1\",\"address\":\"ipc:///a\"}]}", "nodes[0].name" },
    { HEAD "\"nodes\":[{\"name\":\"pi1\",\"address\":\"ipc:///a\",\"weight\":0}]}",
      "nodes[0].weight: 0" },
    { HEAD "\"nodes\":[{\"name\":\"pi1\",\"address\":\"ipc:///a\",\"threads\":65}]}",
      "nodes[0].threads: 65 is not a whole number in 1..64" },
    { HEAD "\"nodes\":[{\"name\":\"pi1\",\"address\":\"ipc:///a\",\"max_memory\":\"7\"}]}",
      "nodes[0].max_memory" },
    { HEAD "\"nodes\":[{\"name\":\"pi1\",\"address\":\"ipc:///a\",\"max_memory\":\"0x7MB\"}]}",
      "nodes[0].max_memory" },
    { HEAD "\"nodes\":[{\"name\":\"pi1\",\"address\":\"ipc:///a\",\"max_memory\":\"1e300GB\"}]}",
      "nodes[0].max_memory" },
    { HEAD "\"nodes\":[{\"name\":\"pi1\",\"address\":\"ipc:///a\"},"
           "{\"name\":\"pi1\",\"address\":\"ipc:///b\"}]}",
      "nodes[1].name: \"pi1\" is nodes[0] already" },
    { HEAD "\"nodes\":[{\"name\":\"pi1\",\"address\":\"ipc:///a\"},"
           "{\"name\":\"pi2\",\"address\":\"ipc:///a\"}]}",
      "nodes[1].address: \"ipc:///a\" is the address of \"pi1\" already" },
    { "{\"cluster\":\"a\",\"coordinator\":\"pi9\"," GOOD_NODES "}",
      "coordinator: \"pi9\" is not one of the nodes: pi1, pi2" },
    { HEAD "\"nodes\":[{\"name\":\"pi1\",\"address\":\"http://a:1\"}]}", "expected tcp://" },
    { HEAD "\"nodes\":[{\"name\":\"pi1\",\"address\":\"tcp://127.0.0.1\"}]}", "host:port" },
    { HEAD "\"nodes\":[{\"name\":\"pi1\",\"address\":\"tcp://:7070\"}]}", "host:port" },
    { HEAD "\"nodes\":[{\"name\":\"pi1\",\"address\":\"tcp://[::1:7070\"}]}", "host:port" },
    { HEAD "\"nodes\":[{\"name\":\"pi1\",\"address\":\"ipc://run/a\"}]}", "absolute path" },
    { HEAD "\"nodes\":[{\"name\":\"pi1\",\"address\":\"ipc:///\"}]}", "absolute path" },
    { HEAD "\"nodes\":[{\"name\":\"pi1\",\"address\":\"tcp://10.0.0.1:7070\"}]}",
      "\"insecure\": true to allow plain TCP" },
    { HEAD "\"nodes\":[{\"name\":\"pi1\",\"address\":\"tcp://127.evil.org:7070\"}]}",
      "not loopback" },
};

Test(config, refuses_with_a_sentence)
{
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        refused(bad[i].json, bad[i].part);
}

Test(config, loopback_needs_no_permission)
{
    static const char *const address[] = { "tcp://127.0.0.1:1", "tcp://127.9.9.9:65535",
                                           "tcp://[::1]:7070", "tcp://localhost:7070", "ipc:///a" };
    static struct config c;
    struct diag why;
    char json[256];

    for (size_t i = 0; i < sizeof address / sizeof address[0]; i++) {
        snprintf(json, sizeof json, HEAD "\"nodes\":[{\"name\":\"pi1\",\"address\":\"%s\"}]}",
                 address[i]);
        cr_expect_eq(parse(&c, json, &why), 0, "%s: %s", address[i], why.text);
    }
    snprintf(json, sizeof json,
             HEAD "\"insecure\":true,\"nodes\":[{\"name\":\"pi1\",\"address\":"
                  "\"tcp://pi1.local:7070\"}]}");
    cr_expect_eq(parse(&c, json, &why), 0, "%s", why.text);
}

/* Writes a list of `n` nodes after HEAD. */
static void many_nodes(char *json, size_t cap, int n)
{
    size_t at = (size_t)snprintf(json, cap, HEAD "\"nodes\":[");
    for (int i = 1; i <= n; i++)
        at +=
            (size_t)snprintf(json + at, cap - at, "%s{\"name\":\"pi%d\",\"address\":\"ipc:///%d\"}",
                             i > 1 ? "," : "", i, i);
    snprintf(json + at, cap - at, "]}");
}

Test(config, sixteen_nodes_and_no_more)
{
    static struct config c;
    static char json[4096];
    struct diag why;

    many_nodes(json, sizeof json, 16);
    cr_expect_eq(parse(&c, json, &why), 0, "%s", why.text);
    cr_expect_eq(c.nnodes, 16);
    many_nodes(json, sizeof json, 17);
    refused(json, "nodes: 17 nodes, expected 1..16");
}

Test(config, long_texts_are_refused)
{
    static char json[4096], name[80], path[2000];

    memset(name, 'a', sizeof name - 1);
    snprintf(json, sizeof json, "{\"cluster\":\"%s\"}", name);
    refused(json, "cluster: longer than the 64 bytes");
    snprintf(json, sizeof json,
             HEAD "\"nodes\":[{\"name\":\"pi1\",\"address\":\"ipc:///%.95s%.20s\"}]}", name, name);
    refused(json, "shorter than 100 bytes");
    memset(path, 'p', sizeof path - 1);
    snprintf(json, sizeof json, HEAD GOOD_NODES ",\"models\":[{\"name\":\"a\",\"file\":\"%s\"}]}",
             path);
    refused(json, "models[0].file: longer than the 1023 bytes");
}

/* Every cut and every one-byte change either parses or is refused; nothing else happens. */
Test(config, any_bytes_are_handled)
{
    static struct config c;
    const char *good = HEAD GOOD_NODES ",\"models\":[{\"name\":\"n\",\"file\":\"f\"}],\"queue\":4}";
    const size_t len = strlen(good);
    char *copy = malloc(len);
    struct diag why;

    for (size_t cut = 0; cut < len; cut++)
        cr_assert_eq(config_parse(&c, good, cut, "f", &why), -EINVAL);
    for (size_t at = 0; at < len; at++)
        for (int b = 0; b < 256; b += 5) {
            memcpy(copy, good, len);
            copy[at] = (char)b;
            const int rc = config_parse(&c, copy, len, "f", &why);
            cr_assert(rc == 0 || rc == -EINVAL);
        }
    free(copy);
}

Test(config, load_reads_files_and_names_what_is_missing)
{
    static struct config c;
    struct diag why;
    char file[] = "/tmp/splitd-config-XXXXXX";
    const char *json = HEAD GOOD_NODES "}";
    const int fd = mkstemp(file);

    cr_assert_geq(fd, 0);
    cr_assert_eq(write(fd, json, strlen(json)), (ssize_t)strlen(json));
    close(fd);
    cr_expect_eq(config_load(&c, file, &why), 0);
    unlink(file);
    cr_expect_eq(config_load(&c, file, &why), -ENOENT);
    cr_expect_not_null(strstr(why.text, file));
}

Test(config, self_by_name)
{
    static struct config c;
    struct diag why = { "" };

    cr_assert_eq(parse(&c, HEAD GOOD_NODES "}", &why), 0);
    cr_expect_eq(config_self(&c, "pi2", &why), 1);
    cr_expect_eq(config_self(&c, "pi3", &why), -ENOENT);
    cr_expect_not_null(strstr(why.text, "pi1, pi2"), "%s", why.text);
    snprintf(c.node[0].address, sizeof c.node[0].address, "tcp://192.0.2.1:7070");
    cr_expect_eq(config_self(&c, NULL, &why), -ENOENT, "no host is called like that");
    gethostname(c.node[1].name, sizeof c.node[1].name - 1);
    cr_expect_eq(config_self(&c, NULL, &why), 1);
}

/* Fresh Raspberry Pis are all called raspberrypi. */
Test(config, self_by_address)
{
    static struct config c;
    struct diag why = { "" };

    cr_assert_eq(parse(&c,
                       HEAD "\"insecure\": true, \"nodes\": ["
                            "{ \"name\": \"pi1\", \"address\": \"tcp://192.0.2.1:7070\" },"
                            "{ \"name\": \"pi2\", \"address\": \"tcp://127.0.0.1:7070\" },"
                            "{ \"name\": \"pi3\", \"address\": \"ipc:///tmp/pi3\" } ] }",
                       &why),
                 0, "%s", why.text);
    cr_expect_eq(config_self(&c, NULL, &why), 1);
    snprintf(c.node[0].address, sizeof c.node[0].address, "tcp://127.0.0.2:7070");
    cr_expect_eq(config_self(&c, NULL, &why), -ENOENT, "two are here");
    cr_expect_not_null(strstr(why.text, "--node"), "%s", why.text);
}
