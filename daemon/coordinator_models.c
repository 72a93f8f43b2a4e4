#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/coordinator_impl.h"
#include "daemon/log.h"
#include "daemon/store.h"
#include "libsplit/tune.h"

/* A model file on its way to a node. */
struct transfer {
    struct transfer *next;
    struct model *model;
    int32_t node;
    int fd;
    uint64_t offset;
};

/* ---- loading, on the pool */

/* With a folder for models nothing else is read, whatever "..", or a symbolic link, a path holds.
 */
static int check_folder(const struct config *c, const char *file, struct diag *why)
{
    char folder[PATH_MAX], real[PATH_MAX];

    if (c->model_folder[0] == '\0')
        return 0;
    if (!realpath(c->model_folder, folder))
        return diag(why, -errno, "model_folder: %s: %s", c->model_folder, strerror(errno));
    if (!realpath(file, real))
        return diag(why, -errno, "%s: %s", file, strerror(errno));
    const size_t len = strlen(folder);
    if (strncmp(real, folder, len) == 0 && real[len] == '/')
        return 0;
    return diag(why, -EPERM, "%s: is not inside model_folder %s", file, c->model_folder);
}

static int load_sidecar(struct model *m, struct diag *why)
{
    char beside[CONFIG_PATH_MAX + 8];

    if (m->config->sidecar[0] != '\0') {
        const int rc = check_folder(m->c->config, m->config->sidecar, why);
        return rc < 0 ? rc : sidecar_load(&m->sidecar, m->config->sidecar, why);
    }
    if (sidecar_path(m->config->file, beside, sizeof beside) == 0 && access(beside, F_OK) == 0)
        return sidecar_load(&m->sidecar, beside, why);
    sidecar_default(&m->sidecar);
    return 0;
}

/* The calibration beside the model, unless all models' halos are to travel without one. */
static int load_halo(struct model *m, struct diag *why)
{
    const enum halo halo = m->c->config->halo;
    const bool wanted =
        halo == HALO_AUTO || halo == HALO_TQ || halo == HALO_VIDEO || halo == HALO_DROP;
    char beside[CONFIG_PATH_MAX + 16];

    if (!wanted || halo_file_path(m->config->file, beside, sizeof beside) < 0 ||
        access(beside, F_OK) != 0)
        return 0;
    const int rc = halo_file_load(&m->halo, beside, m->sha, why);
    m->has_halo = rc == 0;
    return rc;
}

/* Does an extent besides the batch depend on the request?  Axis 0 is the batch wherever there
 * are rows and columns. */
static bool is_open(const struct onnx_model *onnx)
{
    for (int32_t i = 0; i < onnx->ninputs; i++) {
        const struct onnx_value *v = &onnx->input[i];
        if (v->rank < 0)
            return true;
        for (int32_t a = 0; a < v->rank; a++)
            if (v->dim[a] < 0 && !(a == 0 && v->rank > 1))
                return true;
    }
    return false;
}

static int check_inputs(const struct model *m, struct diag *why)
{
    const struct onnx_model *onnx = &m->onnx;

    if (onnx->ninputs < 1 || onnx->ninputs > PLAN_MAX_INPUTS)
        return diag(why, -ENOTSUP, "%s: %d inputs, expected 1..%d", m->config->file, onnx->ninputs,
                    PLAN_MAX_INPUTS);
    for (int32_t i = 0; i < onnx->ninputs; i++) {
        const struct onnx_value *v = &onnx->input[i];
        if (v->rank > PLAN_MAX_RANK)
            return diag(why, -ENOTSUP, "%s: input %s has %d axes, expected at most %d",
                        m->config->file, v->name, v->rank, PLAN_MAX_RANK);
        for (int32_t a = 0; a < v->rank; a++)
            if (v->dim[a] > BOX_MAX_EXTENT || v->dim[a] == 0)
                return diag(why, -ENOTSUP, "%s: input %s has an extent of %lld, expected 1..%d",
                            m->config->file, v->name, (long long)v->dim[a], BOX_MAX_EXTENT);
    }
    return 0;
}

/* Which way computes each convolution fastest here, if that may be measured; an earlier start may
 * have.  Networks whose inputs have any size go by what is expected. */
static int measure_ways(struct model *m, struct diag *why)
{
    enum { LIMIT_MS = 2000 };
    char file[PATH_MAX], name[2 * SHA256_BYTES + 1];
    const char *wanted = getenv("SPLITD_MEASURE");

    if (!m->c->state_dir || (wanted && strcmp(wanted, "0") == 0))
        return 0;
    for (size_t i = 0; i < SHA256_BYTES; i++)
        snprintf(name + 2 * i, 3, "%02x", m->sha[i]);
    const int len = snprintf(file, sizeof file, "%s/%s.ways", m->c->state_dir, name);
    const struct tune_options o = { .limit_ms = LIMIT_MS,
                                    .cache = len < (int)sizeof file ? file : NULL };
    const int rc = graph_tune(&m->fixed->graph, &o);
    if (rc < 0)
        return diag(why, rc, "%s: out of memory while layers are measured", m->config->file);
    log_event(LOG_INFO, "ways-measured", "model=%s changed=%d", m->config->name, rc);
    return 0;
}

static int load(struct model *m, struct diag *why)
{
    struct graph_input inputs[PLAN_MAX_INPUTS];

    int rc = check_folder(m->c->config, m->config->file, why);
    if (rc == 0)
        rc = store_sha256(m->config->file, m->sha, &m->size, why);
    if (rc < 0)
        return rc;
    if (m->size < 1 || m->size > MODEL_MAX_BYTES)
        return diag(why, -EINVAL, "%s: %llu bytes, expected 1 byte to 4 GiB", m->config->file,
                    (unsigned long long)m->size);
    rc = onnx_open(&m->onnx, m->config->file, why);
    if (rc < 0)
        return rc;
    rc = load_sidecar(m, why);
    if (rc < 0) {
        onnx_close(&m->onnx);
        return rc;
    }
    m->opened = true; /* from here on models_free() closes them */
    rc = load_halo(m, why);
    if (rc == 0)
        rc = check_inputs(m, why);
    if (rc < 0)
        return rc;
    m->open = is_open(&m->onnx);
    if (m->open)
        return 0;

    m->fixed = network_new(m);
    if (!m->fixed)
        return diag(why, -ENOMEM, "%s: out of memory", m->config->file);
    m->fixed->fixed = true;
    extents_fixed(&m->fixed->extents, &m->onnx);
    extents_inputs(&m->fixed->extents, &m->onnx, inputs);
    rc = graph_build(&m->fixed->graph, &m->onnx, inputs, m->onnx.ninputs, why);
    if (rc < 0)
        return rc;
    m->fixed->state = NETWORK_BUILT;
    return measure_ways(m, why);
}

static void on_load(uv_work_t *work)
{
    struct model *m = work->data;
    m->status = load(m, &m->load_why);
}

static void offer(struct model *m, int32_t node)
{
    uint8_t body[MODEL_OFFER_BYTES];
    struct msg_model_offer o = { .size = m->size };

    memcpy(o.sha, m->sha, sizeof o.sha);
    const int n = model_offer_encode(&o, body, sizeof body);
    if (n > 0)
        (void)coordinator_send(m->c, node,
                               &(struct header){ .type = MSG_MODEL_OFFER,
                                                 .epoch = m->c->epoch,
                                                 .length = (uint32_t)n },
                               body); /* a failure shows as the link's loss */
}

static void after_load(uv_work_t *work, int status)
{
    struct model *m = work->data;
    struct coordinator *c = m->c;

    c->works--;
    if (status < 0)
        m->status = diag(&m->load_why, status, "%s: %s", m->config->file, uv_strerror(status));
    m->state = m->status < 0 ? MODEL_BROKEN : MODEL_LOADED;
    m->networks = m->fixed;
    if (m->status < 0) {
        m->problem = m->load_why;
        log_event(LOG_ERROR, "model-broken", "model=%s reason=\"%s\"", m->config->name,
                  m->problem.text);
    } else {
        log_event(LOG_INFO, "model-loaded", "model=%s bytes=%llu", m->config->name,
                  (unsigned long long)m->size);
        for (int32_t i = 0; i < c->config->nnodes; i++)
            if (c->up & bit(i))
                offer(m, i);
    }
    coordinator_replan_soon(c);
    uv_async_send(&c->wake); /* coordinator_close() may wait for this work */
}

void models_load(struct coordinator *c)
{
    for (int32_t i = 0; i < c->config->nmodels; i++) {
        struct model *m = &c->model[i];
        m->c = c;
        m->config = &c->config->model[i];
        m->work.data = m;
        coordinator_work(c, WORK_UNKNOWN, &m->work, on_load, after_load);
    }
}

void models_free(struct coordinator *c)
{
    for (int32_t i = 0; i < c->config->nmodels; i++) {
        struct model *m = &c->model[i];
        network_free_all(m);
        if (m->opened) {
            halo_file_done(&m->halo);
            sidecar_done(&m->sidecar);
            onnx_close(&m->onnx);
        }
    }
}

struct model *models_find(struct coordinator *c, const char *name)
{
    for (int32_t i = 0; i < c->config->nmodels; i++)
        if (strcmp(c->config->model[i].name, name) == 0)
            return &c->model[i];
    return NULL;
}

bool models_loading(const struct coordinator *c)
{
    for (int32_t i = 0; i < c->config->nmodels; i++)
        if (c->model[i].state == MODEL_LOADING)
            return true;
    return false;
}

bool models_settled(const struct coordinator *c, int32_t node)
{
    for (int32_t i = 0; i < c->config->nmodels; i++) {
        const struct model *m = &c->model[i];
        if (m->state == MODEL_LOADING ||
            (m->state == MODEL_LOADED && !((m->have | m->failed) & bit(node))))
            return false;
    }
    return true;
}

/* ---- moving files to the nodes */

static void transfer_free(struct transfer *t)
{
    close(t->fd);
    free(t);
}

/* Ends the transfers to `node`, or to all nodes if it is -1; of `m`, or of all models if NULL. */
static void end_transfers(struct coordinator *c, int32_t node, const struct model *m)
{
    for (struct transfer **at = &c->transfers; *at;) {
        struct transfer *t = *at;
        if ((node < 0 || t->node == node) && (!m || t->model == m)) {
            *at = t->next;
            transfer_free(t);
        } else {
            at = &t->next;
        }
    }
}

static void give_up_on(struct model *m, int32_t node, const char *reason)
{
    log_event(LOG_WARN, "model-not-stored", "model=%s node=%s reason=\"%s\"", m->config->name,
              node_name(m->c, node), reason);
    m->have &= ~bit(node);
    m->failed |= bit(node);
    coordinator_replan_soon(m->c);
}

static bool is_moving(const struct coordinator *c, const struct model *m, int32_t node)
{
    for (const struct transfer *t = c->transfers; t; t = t->next)
        if (t->node == node && memcmp(t->model->sha, m->sha, sizeof m->sha) == 0)
            return true;
    return false;
}

/* A file that stands in cluster.json under several names moves once. */
static void begin_transfer(struct model *m, int32_t node)
{
    struct coordinator *c = m->c;

    if (is_moving(c, m, node))
        return;
    struct transfer *t = calloc(1, sizeof *t);
    if (t)
        t->fd = open(m->config->file, O_RDONLY | O_CLOEXEC);
    if (!t || t->fd < 0) {
        give_up_on(m, node, t ? strerror(errno) : "out of memory");
        free(t);
        return;
    }
    t->model = m;
    t->node = node;
    t->next = c->transfers;
    c->transfers = t;
    log_event(LOG_INFO, "model-sending", "model=%s node=%s bytes=%llu", m->config->name,
              node_name(c, node), (unsigned long long)m->size);
    coordinator_pump_on(c);
}

/* Sends the next piece.  Returns 1 when the file is through, 0, or a negative errno. */
static int send_chunk(struct coordinator *c, struct transfer *t, uint8_t *piece, uint8_t *body)
{
    const uint64_t left = t->model->size - t->offset;
    const size_t want = left < MODEL_CHUNK_BYTES ? (size_t)left : MODEL_CHUNK_BYTES;
    const ssize_t n = pread(t->fd, piece, want, (off_t)t->offset);
    struct msg_model_chunk chunk = { .offset = t->offset, .data = piece, .len = want };

    if (n < 0)
        return -errno;
    if ((size_t)n != want) /* cut since it was loaded */
        return -ENODATA;
    memcpy(chunk.sha, t->model->sha, sizeof chunk.sha);
    const int len = model_chunk_encode(&chunk, body, MODEL_CHUNK_MAX_BYTES);
    if (len < 0)
        return len;
    const struct header h = { .type = MSG_MODEL_CHUNK, .epoch = c->epoch, .length = (uint32_t)len };
    const int rc = coordinator_send(c, t->node, &h, body);
    if (rc < 0)
        return rc;
    t->offset += want;
    return t->offset == t->model->size;
}

void models_pump(struct coordinator *c)
{
    uint8_t *room = c->transfers ? malloc(MODEL_CHUNK_BYTES + MODEL_CHUNK_MAX_BYTES) : NULL;
    struct transfer **at = &c->transfers;

    /* One piece per transfer and turn keeps the loop free for frames. */
    while (room && *at) {
        struct transfer *t = *at;
        if (mesh_backlog(c->mesh, t->node) > PUMP_BYTES - MODEL_CHUNK_MAX_BYTES) {
            at = &t->next;
            continue;
        }
        const int rc = send_chunk(c, t, room, room + MODEL_CHUNK_BYTES);
        if (rc == 0) {
            at = &t->next;
            continue;
        }
        *at = t->next;
        if (rc < 0 && rc != -ENOTCONN && rc != -ENOBUFS) /* these two: it goes down anyway */
            give_up_on(t->model, t->node, strerror(-rc));
        transfer_free(t);
    }
    free(room);
    if (!c->transfers)
        coordinator_pump_off(c);
}

void models_offer(struct coordinator *c, int32_t node)
{
    for (int32_t i = 0; i < c->config->nmodels; i++) {
        struct model *m = &c->model[i];
        m->have &= ~bit(node);
        m->failed &= ~bit(node);
        if (m->state == MODEL_LOADED)
            offer(m, node);
    }
}

void models_reoffer(struct model *m, int32_t node)
{
    m->have &= ~bit(node);
    offer(m, node);
}

void models_forget(struct coordinator *c, int32_t node)
{
    end_transfers(c, node, NULL);
    for (int32_t i = 0; i < c->config->nmodels; i++) {
        c->model[i].have &= ~bit(node);
        c->model[i].failed &= ~bit(node);
    }
}

void models_forget_all(struct coordinator *c)
{
    end_transfers(c, -1, NULL);
    coordinator_pump_off(c);
}

static void state_of(struct model *m, int32_t node, const struct msg_model_state *s)
{
    switch (s->state) {
    case MODEL_NEED:
        if (!(m->have & bit(node)))
            begin_transfer(m, node);
        break;
    case MODEL_HAVE:
        end_transfers(m->c, node, m);
        m->have |= bit(node);
        m->failed &= ~bit(node);
        coordinator_replan_soon(m->c);
        break;
    case MODEL_FAILED:
    default:
        end_transfers(m->c, node, m);
        give_up_on(m, node, s->detail);
    }
}

void models_state(struct coordinator *c, int32_t node, const uint8_t *body, size_t len)
{
    struct msg_model_state s;

    if (model_state_decode(&s, body, len) < 0) {
        log_event(LOG_WARN, "message-dropped", "node=%s type=MODEL_STATE", node_name(c, node));
        return;
    }
    for (int32_t i = 0; i < c->config->nmodels; i++) {
        struct model *m = &c->model[i];
        if (m->state == MODEL_LOADED && memcmp(m->sha, s.sha, sizeof s.sha) == 0)
            state_of(m, node, &s);
    }
}
