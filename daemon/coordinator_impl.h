/* daemon/coordinator_impl.h - what the files of the coordinator share; nobody else includes it.
 *
 * From large to small, each owned by the one before:
 *
 *   coordinator  nodes that are up, epoch                         coordinator.c
 *   model        an ONNX file and its sidecar, on which nodes     coordinator_models.c
 *   network      a model at one size of its inputs: a graph       coordinator_plans.c
 *   deployment   a network cut for certain nodes: plan, programs  coordinator_plans.c
 *   flight       one of a deployment's frames on its way          coordinator_frames.c
 *   job          a request from submit to done                    coordinator_jobs.c
 *   job_trace    what a traced job's frame did                    coordinator_trace.c
 *
 * Everything belongs to the loop thread, with three exceptions.  A work function on the pool
 * owns what it was given until its after-function runs (`works` counts them), but for what
 * feeds a flight: it only reads the job, writes the slots and the host's part of the trace.  NNG's
 * threads claim and fill the inbox of a flight: the fields marked "lock" are for coordinator.lock.
 * A deployment is freed only when no claim is open, no slot is in a link's queue and no work
 * uses it. */
#ifndef DAEMON_COORDINATOR_IMPL_H
#define DAEMON_COORDINATOR_IMPL_H

#include <uv.h>

#include "daemon/coordinator.h"
#include "daemon/speed.h"
#include "libsplit/halo_file.h"
#include "libsplit/host.h"
#include "libsplit/mailbox.h"
#include "libsplit/trace_write.h"
#include "proto/model.h"
#include "proto/plan.h"

enum {
    DEPTH = 2,              /* frames in flight per deployment */
    NETWORKS_PER_MODEL = 8, /* sizes kept of a model that takes any */
    MAX_BATCH = 64,         /* pictures in one request, where the model leaves it open */
    JOIN_MS = 200,          /* nodes that come within this time make one epoch */
    START_MS = 2000,        /* how long the first plan waits for all nodes */
    TICK_MS = 20,
    PUMP_MS = 2,          /* model files move this often... */
    PUMP_BYTES = 4 << 20, /* ...with at most so much waiting in a node's link */
    ACK_MS = 120000,      /* loading a program: packing weights on a slow node */
    DRAIN_MS = 5000,      /* from CANCEL to the last FRAME_DONE */
    RETRY_MS = 50,        /* pause before a frame that failed runs again */
    MAX_FAILURES = 3,     /* of one request, where trying again may not help */
};

/* Extents of a model's inputs, in the order of onnx_model.input[]. */
struct extents {
    int32_t n;
    struct {
        int32_t rank, dim[PLAN_MAX_RANK];
    } input[PLAN_MAX_INPUTS];
};

struct job {
    struct coordinator *c;
    struct request *r;
    struct model *model;
    struct network *network;  /* NULL until its size is known */
    struct flight *flight;    /* JOB_FLYING */
    struct job *next, **link; /* in coordinator.jobs or coordinator.ended */
    struct job *next_waiting; /* in network.waiting */
    enum {
        JOB_NEW,
        JOB_WORKING,  /* on the pool */
        JOB_BUILDING, /* waits for its network's graph */
        JOB_WAITING,  /* in network.waiting */
        JOB_FLYING,
        JOB_ENDED
    } state;
    bool over;      /* its fate is decided; a work function still has to come back */
    int32_t status; /* of the last work function */
    int32_t failures;
    bool flew;
    enum outcome outcome;
    struct diag fate;                    /* the sentence to the outcome */
    struct diag why;                     /* of the last work function */
    uint64_t started_ns;                 /* uv_hrtime() */
    uint64_t deadline_ms, not_before_ms; /* uv_now() */
    uv_work_t work;

    struct extents extents;
    int32_t picture_rows, picture_cols; /* as decoded */
    uint8_t *pixels;                    /* of a picture, once decoded */
    /* What frames are fed with, indexed like graph.input[]: the pixels, or what the request lent.
     */
    struct host_input input[PLAN_MAX_INPUTS];
    float **output;                /* [graph.noutputs]; NULL before the first frame */
    uint8_t **bytes;               /* the same, of outputs that come in a form with bytes */
    struct request_tensor *answer; /* request.output: `output` in ONNX's order */
    struct job_trace *trace;       /* NULL unless the request wants it */
};

struct flight {
    struct deployment *deployment;
    enum {
        FLIGHT_FREE,
        FLIGHT_FEEDING, /* nodes know of it; a work function sends them the inputs */
        FLIGHT_RUNNING,
        FLIGHT_COLLECTING, /* a work function reads the messages of the outputs */
        FLIGHT_DRAINING    /* given up: waits until nobody uses its memory */
    } state;
    struct job *job; /* NULL once given up */
    uint32_t frame;
    uint32_t done;      /* nodes of the deployment whose FRAME_DONE has come, by plan node */
    uint32_t concealed; /* halos that these nodes did without */
    bool fresh;         /* some were in a frame before: the next one builds on none */
    int64_t sent_ns;    /* when the nodes were told */
    bool alone;         /* when it started nothing else was under way */
    uint64_t started;   /* coordinator.counts.frames then, itself included */
    uint64_t drain_ms;
    bool working; /* `work` is with the pool */
    uv_work_t work;
    int32_t status;        /* of the work */
    int32_t lost, lost_by; /* while it was fed a node failed, so */
    struct mailbox *inbox;
    struct mesh_slot *slot; /* [nsends] of the deployment */
    uint8_t *payload;       /* of all slots */

    uint32_t accepts; /* lock: the frame whose messages are welcome, 0: none */
    int32_t claims;   /* lock: open ones */
    bool full;        /* lock: every output message is there */
};

struct deployment {
    struct deployment *next; /* coordinator.deployments */
    struct coordinator *c;
    struct network *network;
    uint32_t epoch, number;
    enum { DEPLOY_PREPARING, DEPLOY_OFFERED, DEPLOY_READY, DEPLOY_RETIRED } state;
    uint32_t nodes_mask; /* that could take part; by index in cluster.json */
    enum halo wanted;    /* how halos travel, before halo_choose() says what "auto" means */
    bool tried;          /* its frames are timed for network.trial, one at a time */
    int64_t landed_ns;   /* when the last of them had come home */
    int32_t least;       /* nodes that the plan must be for */
    int32_t nodes;       /* of those in nodes_mask, the ones that the plan is for */
    uint8_t member[PLAN_MAX_NODES];
    int32_t weight[PLAN_MAX_NODES];
    double work_us[PLAN_MAX_NODES]; /* of a frame, as estimated */
    uint32_t acked;                 /* by plan node */
    uint64_t ack_ms;
    struct msg_plan_ack ack[PLAN_MAX_NODES]; /* sizes only */
    struct geometry geo;
    struct halo_choice halo;
    bool *may_miss; /* plan_options.may_miss; NULL: nothing may */
    struct plan plan;
    struct program host;
    struct answer_rule *answer;       /* [graph.noutputs] of brief requests */
    uint8_t *message[PLAN_MAX_NODES]; /* PLAN bodies until they are sent */
    size_t message_bytes[PLAN_MAX_NODES];
    int32_t nsends;                   /* of the host */
    size_t send_bytes, receive_bytes; /* the most that all messages of a frame take */
    uint32_t next_frame;
    struct flight flight[DEPTH];
    bool working;
    uv_work_t work;
    int32_t status;
    struct diag why;
};

struct network {
    struct network *next; /* model.networks, most recently used first */
    struct model *model;
    struct extents extents;
    enum { NETWORK_BUILDING, NETWORK_BUILT, NETWORK_FAILED } state;
    bool fixed;    /* the only size of a model that leaves none open; never evicted */
    int32_t users; /* jobs, deployments and works */
    struct graph graph;
    struct diag why; /* NETWORK_FAILED */
    int32_t status;
    uv_work_t work;
    struct deployment *current; /* the one to use, prepared or being prepared */
    struct deployment *heir;    /* on the same nodes with other halos: takes over from `current`,
                                 * which serves meanwhile, once it is ready; or NULL */
    struct trial trial;         /* of the halos for as many nodes as `current` has */
    uint8_t chosen[CONFIG_MAX_NODES + 1]; /* enum halo by number of nodes; HALO_AUTO: none yet */
    uint32_t unusable;                    /* nodes that refused it */
    int32_t least;                        /* nodes that a plan needs: one of fewer was refused */
    struct diag refusal;                  /* the last refusal */
    struct job *waiting, **last_waiting;
};

struct model {
    struct coordinator *c;
    const struct config_model *config;
    enum { MODEL_LOADING, MODEL_LOADED, MODEL_BROKEN } state;
    struct diag problem;  /* MODEL_BROKEN, or refused by every node; else "" */
    struct diag load_why; /* the loading thread's */
    struct onnx_model onnx;
    struct sidecar sidecar;
    struct halo_file halo;
    bool has_halo; /* is calibrated */
    bool opened;   /* onnx, sidecar and halo are held */
    bool open;     /* some extent but the batch is open */
    uint8_t sha[SHA256_BYTES];
    uint64_t size;
    uint32_t have, failed; /* nodes */
    struct network *networks, *fixed;
    int32_t status;
    uv_work_t work;
    struct model_figures {
        int32_t row_lo, row_hi, rows;
        uint64_t arena_bytes, weight_bytes;
        struct msg_frame_done last;
    } figures[CONFIG_MAX_NODES];
};

struct transfer;

struct coordinator {
    uv_loop_t *loop;
    const struct config *config;
    const char *state_dir; /* NULL: nothing is measured */
    struct mesh *mesh;
    struct model *model;                     /* [config->nmodels] */
    uint32_t up;                             /* nodes with a link */
    struct said {                            /* by each node, of itself */
        char version[HELLO_VERSION_MAX + 1]; /* of its program, "" before it was ever up */
        struct msg_health health;
    } said[CONFIG_MAX_NODES];
    uint32_t members;                  /* nodes of this epoch */
    uint32_t linked[CONFIG_MAX_NODES]; /* nodes with which each says it has a link */
    uint32_t epoch, plans;
    struct speed speed;
    struct transfer *transfers;
    struct job *jobs, *ended;
    int32_t works; /* on the pool */
    struct coordinator_counts counts;

    uv_timer_t tick, join, pump; /* deadlines; next epoch; model transfer */
    uv_async_t wake;             /* messages arrived, requests ended */
    bool starting;               /* the first plan is held back for nodes that are still missing */
    bool closing, closed;
    int32_t open_handles;
    void (*closed_cb)(void *ctx);
    void *closed_ctx;
    /* Requests that could not even get a job, chained by request.priv. */
    struct request *destitute;

    uv_mutex_t lock;
    struct deployment *deployments; /* changed by the loop under lock */
};

/* coordinator.c */
static inline uint32_t bit(int32_t i) { return UINT32_C(1) << i; }
const char *node_name(const struct coordinator *c, int32_t node);
/* Has `work` done by the pool, or at once where it moves no more than LOOP_BYTES; WORK_UNKNOWN: it
 * may take any time.  Then, or at once when that fails, comes `after`. */
#define WORK_UNKNOWN SIZE_MAX
void coordinator_work(struct coordinator *c, size_t bytes, uv_work_t *req, uv_work_cb work,
                      uv_after_work_cb after);
void coordinator_tick_on(struct coordinator *c);
/* A change that may call for new plans; soon, so that changes that come together count once. */
void coordinator_replan_soon(struct coordinator *c);
void coordinator_pump_on(struct coordinator *c); /* calls models_pump() until off */
void coordinator_pump_off(struct coordinator *c);
int coordinator_send(struct coordinator *c, int32_t node, const struct header *h, const void *body);

/* coordinator_models.c */
void models_load(struct coordinator *c);
void models_free(struct coordinator *c);
void models_offer(struct coordinator *c, int32_t node);  /* the node came up */
void models_forget(struct coordinator *c, int32_t node); /* it went down */
void models_forget_all(struct coordinator *c);           /* ends every transfer */
void models_reoffer(struct model *m, int32_t node);      /* it lost its copy */
void models_state(struct coordinator *c, int32_t node, const uint8_t *body, size_t len);
bool models_settled(const struct coordinator *c, int32_t node); /* it answered every offer */
bool models_loading(const struct coordinator *c);
void models_pump(struct coordinator *c);
struct model *models_find(struct coordinator *c, const char *name);

/* coordinator_plans.c */
/* The network of `m` for `e`, made if needed.  NULL when memory is short. */
struct network *network_get(struct model *m, const struct extents *e);
struct network *network_new(struct model *m);         /* zeroed, NETWORK_BUILDING, in no list */
void network_release(struct network *n);              /* a user less */
bool network_takes_pictures(const struct network *n); /* built: one input that is a picture */
void network_free_all(struct model *m);
/* Those of a model that leaves none open but the batch, which becomes 1. */
void extents_fixed(struct extents *e, const struct onnx_model *m);
/* What graph_build() wants for `e`. */
void extents_inputs(const struct extents *e, const struct onnx_model *m,
                    struct graph_input inputs[PLAN_MAX_INPUTS]);
/* Sees to it that `n` has a deployment for the present nodes, if somebody wants one. */
void network_deploy(struct network *n);
/* With it goes what was to follow it. */
void deployment_retire(struct deployment *d);
/* Puts network.heir, which is ready, in the place of `current`, of which nothing flies. */
void network_switch(struct network *n);
/* A frame of `d` took so long, 0: unknown, see trial_frame(). */
void network_flew(struct deployment *d, int64_t ns);
void deployment_ack(struct coordinator *c, int32_t node, const struct header *h,
                    const uint8_t *body);
struct deployment *deployment_find(struct coordinator *c, uint32_t number);
/* Frees the retired ones that nobody uses, gives up on nodes that do not answer. */
void deployments_tick(struct coordinator *c);
int32_t deployment_plan_node(const struct deployment *d, int32_t node); /* -1: not in it */

/* coordinator_frames.c */
int flight_init(struct flight *f, struct deployment *d);
void flight_done(struct flight *f);
bool flight_idle(const struct flight *f);  /* nobody uses its memory */
bool flights_landed(struct deployment *d); /* a frame may start in each of its flights */
bool flights_dispatch(struct network *n);  /* starts what can start; false: nothing waits */
/* Cancels a flight that is RUNNING.  Returns its job, which is the caller's again; NULL, and
 * does nothing, in any other state. */
struct job *flight_give_up(struct flight *f);
void flight_frame_done(struct coordinator *c, int32_t node, const struct header *h,
                       const uint8_t *body);
void flights_arrived(struct coordinator *c); /* looks for flights that are full */
void flights_tick(struct deployment *d);
/* A link of `node` with `others` was lost, and with it perhaps messages: what is under way between
 * them starts again. */
void flights_link_lost(struct coordinator *c, int32_t node, uint32_t others);

/* coordinator_trace.c.  A NULL trace is none: nothing is done.  Whoever owns the job at the time
 * may call; where memory is short the trace lacks something. */
struct job_trace *job_trace_new(void);
void job_trace_free(struct job_trace *t);
/* The host did something beside its program. */
void job_trace_note(struct job_trace *t, const char *name, int64_t start_ns, int64_t end_ns);
/* A frame of `d` begins: what an earlier try left is forgotten. */
void job_trace_start(struct job_trace *t, const struct deployment *d);
/* The host did something for a step of its program, from `*since_ns` until now, which becomes
 * `*since_ns`. */
void job_trace_step(struct job_trace *t, enum trace_kind kind, int32_t step, int64_t *since_ns);
/* The FRAME_DONE of plan node `i`, which decodes. */
void job_trace_take(struct job_trace *t, int32_t i, const uint8_t *body, int32_t nevents);
/* Loop thread: notes what the nodes' clocks say, before the next. */
void job_trace_clocks(struct job_trace *t, const struct deployment *d);
/* Writes what has come so far; the deployment is needed no more. */
void job_trace_write(struct job_trace *t, const struct deployment *d, int64_t zero_ns);
/* Adds the notes and ends: the JSON, valid until job_trace_free(), or NULL. */
const char *job_trace_text(struct job_trace *t);

/* coordinator_jobs.c */
void job_advance(struct job *j);
void job_wait(struct job *j, bool front); /* into network.waiting */
void job_unwait(struct job *j);
/* Pool: makes room for them, in the forms of `answer` (NULL: values); 0 or -ENOMEM. */
int job_outputs(struct job *j, const struct answer_rule *answer);
void job_collected(struct job *j); /* its outputs have come */
void job_over(struct job *j);      /* j->over is set and no work uses it any more */
void job_end(struct job *j, enum outcome outcome, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
void jobs_tick(struct coordinator *c);
void jobs_report(struct coordinator *c); /* calls `done` of those that ended */
void jobs_network(struct network *n);    /* its graph is built, or will not be */

#endif
