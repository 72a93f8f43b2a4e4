#include "cli/client_http.h"

#include <curl/curl.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>

enum {
    FIRST_PAUSE_MS = 50,
    LONGEST_PAUSE_MS = 1000,
    CONNECT_MS = 2000, /* then it is tried again: TCP asks a dead host ever more rarely */
    /* A host that vanished is given up after this silence, while one that computes stays quiet for
     * any time: its kernel answers. */
    KEEPALIVE_S = 1,
    KEEPALIVE_PROBES = 3,
};

struct http {
    CURL *curl;
    char *base;          /* without a slash at its end */
    char *ca;            /* or NULL */
    char *authorization; /* the header, or NULL */
    int64_t timeout_ms;
    char error[CURL_ERROR_SIZE];
};

static int64_t now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* Copies what there is to copy; false if memory is short. */
static bool take_target(struct http *h, const struct http_target *to)
{
    if (asprintf(&h->base, "%s%s", strstr(to->base, "://") ? "" : "http://", to->base) < 0)
        h->base = NULL;
    h->ca = to->ca ? strdup(to->ca) : NULL;
    if (to->token && asprintf(&h->authorization, "Authorization: Bearer %s", to->token) < 0)
        h->authorization = NULL;
    return h->base && (h->ca || !to->ca) && (h->authorization || !to->token);
}

int http_new(struct http **out, const struct http_target *to, double timeout_s, struct diag *why)
{
    const char *base = to->base;

    if (base[0] == '\0')
        return diag(why, -EINVAL, "the server's URL is empty");
    const char *host = strstr(base, "://");
    if (host && (strspn(host + 3, "/") == strlen(host + 3) ||
                 (strncasecmp(base, "http://", 7) != 0 && strncasecmp(base, "https://", 8) != 0)))
        return diag(why, -EINVAL, "%s: is no http:// or https:// URL", base);

    struct http *h = calloc(1, sizeof *h);
    if (!h)
        return diag(why, -ENOMEM, "memory is short");
    const bool taken = take_target(h, to);
    h->curl = curl_easy_init();
    h->timeout_ms = (int64_t)(timeout_s * 1000);
    if (!taken || !h->curl) {
        http_free(h);
        return diag(why, -ENOMEM, "memory is short");
    }
    for (size_t n = strlen(h->base); n > 0 && h->base[n - 1] == '/'; n--)
        h->base[n - 1] = '\0';
    *out = h;
    return 0;
}

void http_free(struct http *h)
{
    if (!h)
        return;
    curl_easy_cleanup(h->curl);
    free(h->authorization);
    free(h->ca);
    free(h->base);
    free(h);
}

const char *http_base(const struct http *h) { return h->base; }

char *http_escape(const char *text)
{
    char *escaped = curl_easy_escape(NULL, text, 0);
    char *copy = escaped ? strdup(escaped) : NULL;
    curl_free(escaped);
    return copy;
}

/* What arrives of one answer. */
struct arrival {
    struct http_reply *reply;
    size_t capacity;
    bool has_json_len;
    int error;
};

static size_t on_body(char *data, size_t size, size_t n, void *ctx)
{
    struct arrival *a = ctx;
    struct http_reply *r = a->reply;

    n *= size;
    if (n > (size_t)HTTP_MAX_REPLY_BYTES - r->len) {
        a->error = -EFBIG;
        return 0;
    }
    if (r->len + n > a->capacity) {
        const size_t capacity = 2 * a->capacity + n;
        uint8_t *body = realloc(r->body, capacity);
        if (!body) {
            a->error = -ENOMEM;
            return 0;
        }
        r->body = body;
        a->capacity = capacity;
    }
    memcpy(r->body + r->len, data, n);
    r->len += n;
    return n;
}

static size_t on_header(char *line, size_t size, size_t n, void *ctx)
{
    static const char name[] = "Inference-Header-Content-Length:";
    struct arrival *a = ctx;
    char text[32];

    n *= size;
    const size_t skip = sizeof name - 1;
    if (n > skip && n - skip < sizeof text && strncasecmp(line, name, skip) == 0) {
        memcpy(text, line + skip, n - skip);
        text[n - skip] = '\0';
        a->reply->json_len = strtoull(text, NULL, 10);
        a->has_json_len = true;
    }
    return n;
}

static int on_socket(void *ctx, curl_socket_t fd, curlsocktype purpose)
{
    const int on = 1, seconds = KEEPALIVE_S, probes = KEEPALIVE_PROBES;
    const unsigned unsent_ms = 1000 * (KEEPALIVE_S + KEEPALIVE_PROBES * KEEPALIVE_S);
    (void)ctx, (void)purpose;

    /* Without them it only takes longer. */
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof seconds);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &seconds, sizeof seconds);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &unsent_ms, sizeof unsent_ms);
    return CURL_SOCKOPT_OK;
}

/* A certificate that was not taken, in whatever words. */
static bool is_distrusted(const struct http *h, CURLcode code)
{
    long verdict = 0;

    if (code == CURLE_SSL_CONNECT_ERROR)
        curl_easy_getinfo(h->curl, CURLINFO_SSL_VERIFYRESULT, &verdict);
    return verdict != 0 || code == CURLE_PEER_FAILED_VERIFICATION ||
           code == CURLE_SSL_CACERT_BADFILE || code == CURLE_SSL_ISSUER_ERROR;
}

/* The server went away, or is not there yet: nothing that is asked of it changes anything, so it
 * may be asked again. */
static bool may_pass(const struct http *h, CURLcode code)
{
    /* In the middle of a handshake; other failures of TLS stay what they are. */
    if (code == CURLE_SSL_CONNECT_ERROR && !is_distrusted(h, code))
        return strstr(h->error, "SYSCALL") || strstr(h->error, "unexpected eof");
    return code == CURLE_COULDNT_CONNECT || code == CURLE_GOT_NOTHING || code == CURLE_RECV_ERROR ||
           code == CURLE_SEND_ERROR || code == CURLE_PARTIAL_FILE ||
           code == CURLE_OPERATION_TIMEDOUT;
}

/* `late`: there was no time left for it. */
static int explain(const struct http *h, CURLcode code, bool late, const struct arrival *a,
                   struct diag *why)
{
    if (a->error == -EFBIG)
        return diag(why, -EFBIG, "%s: its answer is larger than %d bytes", h->base,
                    HTTP_MAX_REPLY_BYTES);
    if (a->error == -ENOMEM || code == CURLE_OUT_OF_MEMORY)
        return diag(why, -ENOMEM, "%s: memory is short for its answer", h->base);
    const char *text = h->error[0] != '\0' ? h->error : curl_easy_strerror(code);
    if (code == CURLE_OPERATION_TIMEDOUT && late)
        return diag(why, -ETIMEDOUT, "%s: no answer within %g s", h->base,
                    (double)h->timeout_ms / 1000);
    if (is_distrusted(h, code))
        return diag(why, -EKEYREJECTED,
                    "%s: is not to be trusted (%s): name its authority with --ca", h->base, text);
    if (may_pass(h, code))
        return diag(why, -ECONNREFUSED, "%s: cannot be reached (%s)", h->base, text);
    switch (code) {
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_COULDNT_RESOLVE_HOST:
        return diag(why, -EHOSTUNREACH, "%s: cannot be reached (%s)", h->base, text);
    default:
        return diag(why, -EIO, "%s: %s", h->base, text);
    }
}

/* Collects an answer in `*r`, which is empty before; a part of it after a failure. */
static int ask_once(struct http *h, struct curl_slist *fields, const char *url, const uint8_t *body,
                    size_t len, int64_t timeout_ms, struct http_reply *r, struct diag *why)
{
    struct arrival a = { .reply = r };

    h->error[0] = '\0';
    curl_easy_reset(h->curl);
    curl_easy_setopt(h->curl, CURLOPT_URL, url);
    curl_easy_setopt(h->curl, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(h->curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(h->curl, CURLOPT_TIMEOUT_MS, (long)timeout_ms);
    curl_easy_setopt(h->curl, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    curl_easy_setopt(h->curl, CURLOPT_SOCKOPTFUNCTION, on_socket);
    curl_easy_setopt(h->curl, CURLOPT_USERAGENT, "splitctl/" SPLITD_VERSION);
    curl_easy_setopt(h->curl, CURLOPT_ERRORBUFFER, h->error);
    curl_easy_setopt(h->curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(h->curl, CURLOPT_WRITEDATA, &a);
    curl_easy_setopt(h->curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(h->curl, CURLOPT_HEADERDATA, &a);
    curl_easy_setopt(h->curl, CURLOPT_HTTPHEADER, fields);
    if (h->ca) {
        curl_easy_setopt(h->curl, CURLOPT_CAINFO, h->ca);
        curl_easy_setopt(h->curl, CURLOPT_CAPATH, NULL); /* and no other authority */
    }
    if (body) {
        curl_easy_setopt(h->curl, CURLOPT_POSTFIELDS, body);
        curl_easy_setopt(h->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)len);
    }
    const int64_t deadline = now_ms() + timeout_ms;
    const CURLcode code = curl_easy_perform(h->curl);
    if (code != CURLE_OK)
        return explain(h, code, now_ms() >= deadline, &a, why);
    curl_easy_getinfo(h->curl, CURLINFO_RESPONSE_CODE, &r->status);
    if (!a.has_json_len || r->json_len > r->len)
        r->json_len = r->len;
    return 0;
}

/* Milliseconds to wait before asking again: what the server asks for, or `pause_ms`. */
static int64_t retry_after(const struct http *h, int64_t pause_ms)
{
    curl_off_t seconds = 0;
    curl_easy_getinfo(h->curl, CURLINFO_RETRY_AFTER, &seconds);
    return seconds > 0 && seconds < 3600 ? (int64_t)seconds * 1000 : pause_ms;
}

static void sleep_ms(int64_t ms)
{
    struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };
    while (nanosleep(&t, &t) < 0 && errno == EINTR) {
    }
}

/* Content type and length of the JSON part; "Expect:" keeps libcurl from waiting a second for a
 * "100 Continue" before a large body. */
static struct curl_slist *request_fields(const struct http *h, size_t len, size_t json_len)
{
    const bool is_binary = json_len < len;
    char binary[64];
    snprintf(binary, sizeof binary, "Inference-Header-Content-Length: %zu", json_len);
    const char *const field[] = { "Expect:",
                                  is_binary ? "Content-Type: application/octet-stream"
                                            : "Content-Type: application/json",
                                  is_binary ? binary : NULL, h->authorization };
    struct curl_slist *list = NULL;
    for (size_t i = 0; i < sizeof field / sizeof field[0]; i++) {
        if (!field[i])
            continue;
        struct curl_slist *longer = curl_slist_append(list, field[i]);
        if (!longer) {
            curl_slist_free_all(list);
            return NULL;
        }
        list = longer;
    }
    return list;
}

int http_ask(struct http *h, const char *path, const uint8_t *body, size_t len, size_t json_len,
             struct http_reply *r, struct diag *why)
{
    const int64_t deadline = now_ms() + h->timeout_ms;
    int64_t pause_ms = FIRST_PAUSE_MS;
    char *url = NULL;
    int rc;

    *r = (struct http_reply){ 0 };
    struct curl_slist *fields = request_fields(h, len, json_len);
    if (!fields || asprintf(&url, "%s%s", h->base, path) < 0) {
        url = NULL;
        rc = diag(why, -ENOMEM, "memory is short");
        goto out;
    }
    for (;;) {
        const int64_t left = deadline - now_ms();
        rc = ask_once(h, fields, url, body, len, left > 1 ? left : 1, r, why);
        int64_t wait = pause_ms;
        if (rc == 0 && r->status == 503)
            wait = retry_after(h, pause_ms);
        else if (rc != -ECONNREFUSED)
            break;
        if (now_ms() + wait >= deadline)
            break;
        http_reply_done(r);
        sleep_ms(wait);
        pause_ms = 2 * pause_ms < LONGEST_PAUSE_MS ? 2 * pause_ms : LONGEST_PAUSE_MS;
    }
out:
    if (rc < 0)
        http_reply_done(r);
    free(url);
    curl_slist_free_all(fields);
    return rc;
}

void http_reply_done(struct http_reply *r)
{
    free(r->body);
    *r = (struct http_reply){ 0 };
}
