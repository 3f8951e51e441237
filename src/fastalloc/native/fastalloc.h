/* The door: all that _core.pyx may call. C returns a status and never sets an exception.
 *
 * "GIL": the caller holds it. "any": any thread, at any time. Costs are of the usual case.
 */
#ifndef FASTALLOC_H
#define FASTALLOC_H

#include <stddef.h>
#include <stdint.h>

#include "layout.h"

typedef enum {
    FA_OK = 0,
    FA_ERROR_SYSTEM,      /* errno says why; fa_error_step() says at what */
    FA_ERROR_RUNNING,     /* already started */
    FA_ERROR_STOPPED,     /* not started */
    FA_ERROR_UNSUPPORTED, /* this interpreter cannot be hooked; fa_error_step() says why */
    FA_ERROR_ARGUMENT
} fa_status;

#define FA_LIMITS 12

struct fa_limit {
    uint64_t bytes;         /* 0: none at present */
    uint32_t kind;          /* enum fa_limit_kind: what is compared with it */
    const char *usage_path; /* of a cgroup's limit and the machine's: the file with the usage */
    const char *path;       /* of a cgroup's: the file with the limit, which may change; else NULL */
};
enum fa_limit_kind {
    FA_LIMIT_RESIDENT,      /* VmRSS */
    FA_LIMIT_CGROUP,        /* the cgroup's usage less its inactive file pages */
    FA_LIMIT_ADDRESS_SPACE, /* VmSize: RLIMIT_AS */
    FA_LIMIT_DATA,          /* VmData: RLIMIT_DATA */
    FA_LIMIT_MACHINE        /* MemTotal less MemAvailable, while no smaller limit stands */
};

struct fa_config {
    const char *directory; /* absolute; exists, owned by this user, 0700 */
    const char *options;   /* JSON, for readers */
    uint32_t mode;         /* enum fa_mode */
    uint64_t interval_bytes;
    uint32_t max_frames;   /* 1 to FA_MAX_FRAMES */
    uint32_t scale;        /* 1..64: capacity of the tables */
    const char *cgroup_usage_path; /* "" or NULL: none */
    const struct fa_limit *limits; /* all that there may be, also those that are not set */
    uint32_t limit_count;          /* up to FA_LIMITS */
    uint32_t summary_percent;      /* of a limit: 0 never, else 1 to 100; so are the next four */
    uint32_t guard_percent;
    uint32_t guard_rearm_percent;
    uint32_t standby_light_percent;
    uint32_t standby_aggressive_percent;
    uint64_t guard_cooldown_ns;
    uint32_t python_version; /* PY_VERSION_HEX */
    uint32_t in_memory; /* no file: the directory cannot be written */
    uint64_t keep_free_bytes; /* of the disk; no file is made that would leave less. 0: no floor */
    const char *oom_events_path; /* where the process's own cgroup counts kills; "" or NULL: none */
    uint32_t native; /* malloc and mmap of other objects, too */
    uint32_t native_frames; /* C functions kept of their stacks: 0 to FA_MAX_NATIVE_FRAMES */
};

#define FA_MAX_FRAMES 256 /* 6 KiB of the hook's C stack */
#define FA_MAX_NATIVE_FRAMES 64 /* threads that Python does not know may have 16 KiB of stack */

/* A scope is an open span or phase: what allocations are counted for. A small number, 0: the
 * process's own phase. */
typedef uint32_t fa_scope;
#define FA_SCOPE_UNKNOWN UINT32_MAX /* the thread has no Python state to tell */

/* --- life; GIL -------------------------------------------------------------------------- */
const char *fa_unsupported(void); /* reason, or NULL when this interpreter can be hooked */
const char *fa_misfit(void); /* that part of the reason which has to be tried out: 0.1 ms, once */
fa_status fa_start(const struct fa_config *config);
fa_status fa_stop(int at_exit);
fa_status fa_set_mode(uint32_t mode, uint64_t interval_bytes);
/* Notes how the process is about to end: enum fa_exit, and a name for it. The last note counts. */
void fa_note_exit(uint32_t kind, const char *name, size_t name_bytes);
const char *fa_error_step(void); /* what failed last: a short phrase */
int fa_is_active(void);
int fa_hooks_displaced(void); /* another tool took our hooks away */

/* --- control and overhead; any. About 0.1 us, notes that are events 1 us ------------------- */
uint32_t fa_control(void); /* the control word, enum fa_control */
int fa_control_replace(uint32_t old, uint32_t new); /* 0: it is not `old` any more */
void fa_note_off(uint32_t off); /* enum fa_off: why recording is off, for readers */
void fa_note_own_cpu(uint32_t millionths); /* of the process's CPU time */
/* The event, and the interval from now on; 0: recording is about to be switched off for it. */
void fa_note_overhead(uint32_t millionths, uint64_t interval_bytes);
void fa_note_breaker(const char *layer, size_t layer_bytes, int is_open);

/* --- native memory; GIL ------------------------------------------------------------------ */
int fa_native_is_on(void);
const char *fa_native_reason(void); /* why not, though asked for; what is amiss, though on; or "" */
const char *fa_native_frames_reason(void); /* why no native frames are kept, though asked for; "" */
uint32_t fa_native_slots(void); /* that hold a hook */
/* Goes through all loaded objects: patches what is new, and steps back where another tool has patched them.
 * About 1 ms. */
void fa_native_look(void);
/* WITHOUT the GIL, which the initializer of a library that is being loaded may want: it is waited for. Before fa_start
 * with `native`; and before fa_native_look and fa_set_mode. What is loaded later they leave for the next look. */
void fa_native_prepare(void);
void fa_native_wait(void);

/* --- the watcher: a thread of ours, for work that no allocation brings about (watcher.h) --- */
enum fa_reason {
    FA_REASON_TIMER = 1,   /* the time that fa_work_due or the work itself named has come */
    FA_REASON_CONTROL = 2, /* the control word has changed */
    FA_REASON_DUMP = 4,    /* a dump is asked for (dump_requests has grown) */
    FA_REASON_WARNED = 8,  /* usage passed summary_percent */
    FA_REASON_TRIPPED = 16, /* usage passed guard_percent */
    FA_REASON_REARM = 32,   /* usage has fallen below guard_rearm_percent */
    FA_REASON_RESIDENT = 64, /* a look at resident memory is asked for (resident_requests has grown) */
    FA_REASON_NATIVE = 128 /* loaded objects should be gone through: fa_native_look */
};
/* Called in the watcher's thread, without the GIL, for some reasons at once; returns in how many ns it
 * wants to be called again for FA_REASON_TIMER, UINT64_MAX: not by the clock. */
typedef uint64_t (*fa_work)(uint32_t reasons);
void fa_set_work(fa_work work);
void fa_work_due(uint64_t delay_ns); /* any; the earliest counts */
/* Joins the watcher before a fork or at exit: waits for its work to end, at most so long. WITHOUT the GIL.
 * 1: it is gone; then it starts again by itself after the next fork, or by fa_watcher_restart. */
int fa_watcher_join(uint64_t wait_ns);
/* GIL: after a fork. 0: not yet, ask again. */
int fa_watcher_restart(void);
/* GIL: from Python's at-fork functions in a child: as soon as they are through. Not from pthread_atfork: the lock
 * of the pending calls may have been held at the fork by a thread that is not there. */
void fa_watcher_restart_soon(void);

/* --- the guard (guard.h); GIL -------------------------------------------------------------- */
void fa_guard_stop_tracking(void); /* after a trip: no samples and no object hooks until it is armed again */
void fa_guard_rearm(void);         /* and tracking goes on as before */
int fa_guard_has_stopped(void);
uint32_t fa_guard_mode(void); /* the header's; while the guard has stopped tracking, the one to go back to */
/* Of each limit of the configuration, FA_LIMITS at most, the usage that counts for it and what it is now (0: none);
 * how many. All zero while another thread reads. About 5 us. */
uint32_t fa_guard_usages(uint64_t *used, uint64_t *limits);
/* The frame of the program that tripped it, as "function (file:line)"; bytes, 0: not known. */
size_t fa_guard_frame(char *to, size_t capacity);

/* --- the recording; any ----------------------------------------------------------------- */
const struct fa_header *fa_header(void); /* NULL before the first start */
const char *fa_recording_path(void); /* "": there is no file */
void fa_settle(void); /* a forked child gets its file now, not only when it has lived a while */
fa_status fa_to_file(void); /* what was started in memory goes on in a file */
uint64_t fa_file_bytes(void);
/* A consistent copy into `to` (fa_file_bytes() long, zeroed). About 0.1 ms. */
fa_status fa_copy_recording(char *to, size_t bytes);
/* From here to fa_take_in, what the calling thread allocates is not the program's: not counted, no samples.
 * Frees are seen as ever. NULL: it is left out already. */
struct fa_thread *fa_leave_out(void);
void fa_take_in(struct fa_thread *slot);
void fa_live_by_domain(uint64_t bytes[FA_DOMAIN_COUNT]); /* estimated; some 10 us: reads all sites */
void fa_thread_totals(uint64_t *count, uint64_t *bytes); /* exact, of the calling thread */

/* --- resident memory (resident.h): a look at what it consists of, in three steps ------------- */
#define FA_PRINTOUT_BYTES 8192 /* it is 4 KiB, mostly of a line per size */
struct fa_look {
    struct fa_resident found;
    void *file; /* into `printout` */
    char printout[FA_PRINTOUT_BYTES];
    char buffer[FA_PRINTOUT_BYTES];
};
/* WITHOUT the GIL: the kernel's counts and malloc's. 0.1 ms, and 1 ms for some 10,000 pieces that malloc holds free. */
void fa_look_begin(struct fa_look *look);
void fa_look_at_arenas(struct fa_look *look); /* GIL. Some 15 ns for each pool (16 KiB) of the object allocator */
void fa_look_end(struct fa_look *look); /* WITHOUT the GIL: into the recording's header */

/* --- dumps; GIL, except fa_dump_write (any). One at a time ------------------------------- */
/* Memory for the text of state.json, `most` bytes at most, the first `touched` of which cost nothing
 * when they are needed. May be called again. */
fa_status fa_dump_reserve(size_t touched, size_t most);
/* A new text of at most `limit` bytes (or what is touched); returns how many it may have. */
size_t fa_dump_begin(size_t limit);
int fa_dump_text(const char *text, size_t bytes, size_t spare); /* 0: no room for it and `spare` more */
size_t fa_dump_position(void);
void fa_dump_rewind(size_t position);
/* Writes the folder dump-<pid>-<instant_ms> (or the next free instant) with the recording's copy
 * and the text. Where `headroom` bytes (0: unknown) are too few for the pages of a copy, it copies
 * bit by bit. On failure nothing is left behind. 1 to 5 ms, then as long as the disk takes. */
fa_status fa_dump_write(uint64_t instant_ms, uint64_t headroom, char *path, size_t path_bytes);
/* Has a signal ask for a dump (FA_REASON_DUMP). A handler that is there is called as well. */
fa_status fa_dump_signal(int number);
uint32_t fa_dump_signals(void); /* received since the last call; any thread */

/* Into memory reserved for it; the result is good until the next call of any of these. */
size_t fa_open_spans(const struct fa_span **spans, size_t *more); /* those that hold most; with what runs now */
size_t fa_checkpoints(const struct fa_record **records); /* the last ones, newest last */
const char *fa_string(uint32_t id, size_t *bytes); /* of the recording */
uint32_t fa_thread_name_string(uint32_t thread_name); /* the string id of an entry of FA_THREAD_NAMES */
/* The running thread behind slot `after` (0: the first), and what it counts for; its slot, 0: no more. */
uint32_t fa_next_thread(uint32_t after, uint32_t *tid, uint64_t *span_id, uint32_t *phase_name);
int64_t fa_headroom(void); /* bytes until the limit; -1: no limit is known. About 10 us */
uint64_t fa_now_ns(void); /* since the recording's start */

/* Counts the objects that the garbage collector knows, by type, without allocating; objects of the
 * types `wanted` are kept as well, FA_KEPT_OBJECTS of them. Stops at `until_ns` (as fa_now_ns). Holds the GIL throughout:
 * 5 to 50 ns each. Types and kept objects are owned by the caller afterwards. 0: this interpreter does not show them. */
#define FA_KEPT_OBJECTS 256
struct fa_object_counts {
    uint64_t seen;
    uint64_t untold; /* of these, of types beyond the table's room */
    size_t kept;
    void *objects[FA_KEPT_OBJECTS];
    int complete;
};
int fa_count_objects(void *const *wanted, size_t wanted_count, uint64_t budget_ns, struct fa_object_counts *counts);
int fa_counting_writes(void); /* GIL; to each object: what a forked child shares with its parent is copied */
void *fa_most_frequent_type(uint64_t *count); /* and forgets it; NULL: none is left */
void fa_forget_types(void); /* those that are left */

/* --- scopes; GIL (they belong to the running context). About 50 ns each ------------------ */
/* Tells where a scope object keeps its fa_scope, and which context variable holds scope
 * objects, so that samples can read the running context themselves. */
void fa_watch_scopes(void *scope_type, size_t offset, void *context_variable, int64_t hash);
fa_scope fa_context_scope(void); /* of the running Python context, or FA_SCOPE_UNKNOWN; any thread */
fa_scope fa_switch_scope(fa_scope scope); /* returns the scope before */
fa_scope fa_scope_in(const void *context); /* the same of any object; FA_SCOPE_UNKNOWN: it is no Context */
void fa_follow_context(void); /* to the scope that the running context names */
/* Stacks end above the frame of code `callee` that code `caller` called; both live on. */
void fa_end_stacks_at(const void *caller, const void *callee);
/* A task starts its step in the scope of its context, which is the running one already; then it is
 * suspended, and the thread goes back to what it was in before. */
void fa_task_enter(void);
void fa_task_leave(void);
/* A task goes on in `scope`, its context being about to be entered again. */
void fa_task_resume(fa_scope scope);
fa_scope fa_present_scope(void); /* that the calling thread counts for */
const void *fa_context(void); /* that runs in this thread, which holds the GIL; for comparison only */
/* The same for a step whose context is about to be entered. */
struct fa_step {
    fa_scope outer;
    const void *ignored_context;
};
struct fa_step fa_step_begin(fa_scope scope);
void fa_step_end(struct fa_step step);
/* From now on, CPython itself tells of every change of the running context. 0 on success; -1: not on
 * this version (before 3.14), or too many watch already. */
int fa_watch_contexts(void);
/* From now on, the calls above are made by CPython itself for every task of asyncio: `current_tasks`
 * is the dict in which it notes what runs. 0 on success; -1: on 3.12 and 3.13 only. */
int fa_watch_tasks(void *current_tasks);

/* Open (does not enter: the context variable must name the scope first, or a sample in between
 * would take the thread back), close (writes the record, leaves), release (nothing can allocate in it any more). Opening
 * returns 0 when a table is full: then all goes to the process, and a loss is counted. */
fa_scope fa_span_open(fa_scope parent, const char *name, size_t name_bytes,
                      const char *attributes, size_t attributes_bytes);
fa_scope fa_phase_open(fa_scope parent, const char *name, size_t name_bytes,
                       int quiet); /* quiet: counted under its label, but without a record at its end */
/* Of a span; what it and its phases have counted so far goes along. Cost grows with the most
 * scopes that were ever open at once: 1 us, 0.1 ms for 10,000. */
void fa_scope_rename(fa_scope scope, const char *name, size_t name_bytes);
void fa_scope_release(fa_scope scope);
uint64_t fa_scope_span_id(fa_scope scope);
uint64_t fa_scope_held_bytes(fa_scope scope); /* as in its totals, without the lock */
/* Samples in this scope, and in all that is opened inside it from here on, so many bytes apart; in
 * whatever thread. Wider than the process's interval: nothing changes. */
void fa_scope_record_closely(fa_scope scope, uint32_t interval_bytes);
/* What an open scope, or one that is closed and not yet released, has come to; 0, and all zero,
 * where it is not recorded. About 50 ns. */
struct fa_scope_totals {
    uint64_t duration_ns; /* until now */
    uint64_t count;       /* exact, with what is closed inside it; of an open span: with its open phases too */
    uint64_t bytes;
    int64_t live_change_bytes; /* of the process's live heap since the scope was opened, estimated */
    uint64_t held_bytes;       /* spans: what its own samples hold now, estimated */
    uint64_t peak_bytes;       /* spans: the most that they ever held at once */
};
int fa_scope_totals(fa_scope scope, struct fa_scope_totals *totals);
/* `next`: the scope that the thread goes on in. Gives the totals as well. */
void fa_scope_close(fa_scope scope, fa_scope next, struct fa_scope_totals *totals);
void fa_checkpoint(const char *name, size_t name_bytes); /* 1 to 5 us: reads RSS */
void fa_set_process_phase(const char *name, size_t name_bytes);
void fa_set_thread_name(uint32_t tid, const char *name, size_t name_bytes);

#endif
