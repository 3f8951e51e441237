/* The recording: one file, mapped shared, that holds the recorder's whole state.
 *
 * This header is the only definition of its layout. The reading wing's numpy dtypes
 * (recording/layout.py) are compared with it, field by field, by a test.
 *
 *   +-----------------+ 0
 *   | fa_header       |  one page; regions[] says where everything below lies
 *   +-----------------+ regions[FA_THREADS].offset      (each region page-aligned)
 *   | fa_thread[]     |  one per running thread: countdown and exact counters
 *   +-----------------+
 *   | ...             |  the other regions, in the order of enum fa_region_id
 *   +-----------------+ file_bytes
 *
 * Laws
 *  1. Everything is little-endian, 8-byte aligned, and index 0 of every table means "none",
 *     so that a zeroed file is a valid empty recording.
 *  2. Tables that others point into (strings, functions, nodes, sites, names, phases) are
 *     append-only: an entry below `used` never changes its identity, but for nodes and sites when
 *     `sweeps` moves on.
 *  3. All times are nanoseconds of CLOCK_MONOTONIC since `start_monotonic_ns`.
 *  4. Whoever writes anything but a thread's own slot, the control word, *_requests or own_cpu_* holds the
 *     recorder's lock and has made `sequence` odd. A reader that sees the same even value
 *     before and after copying has a consistent copy; one that finds it odd in a dead
 *     process's file recomputes the totals from the live table.
 *  5. `magic` is written last, when all else is whole: a file that begins with zeros is being created,
 *     if it is locked, or never was finished.
 */
#ifndef FA_LAYOUT_H
#define FA_LAYOUT_H

#include <stdint.h>

#define FA_MAGIC "fastallo"          /* 8 bytes, no NUL */
#define FA_LAYOUT_VERSION 1u
#define FA_PAGE_BYTES 4096u

enum fa_region_id {
    FA_THREADS,       /* fa_thread[]: running threads; slot 0 unused            */
    FA_OPTIONS,       /* UTF-8 JSON, `used` bytes: the options in force         */
    FA_STRINGS,       /* bytes: u16 length, UTF-8, NUL; a string's id is its offset */
    FA_FUNCTIONS,     /* fa_function[]                                          */
    FA_NODES,         /* fa_node[]: the tree of stacks, root to leaf            */
    FA_SITES,         /* fa_site[]: distinct (leaf node, domain)                */
    FA_LIVE,          /* fa_live[]: the live heap; free slots have address 0    */
    FA_FREED,         /* ring of fa_freed: samples that were freed              */
    FA_SPANS,         /* fa_span[]: open spans and those that still hold memory */
    FA_PHASES,        /* fa_phase[]: totals per (span name, phase name)         */
    FA_THREAD_NAMES,  /* fa_thread_name[]                                       */
    FA_RECORDS,       /* ring of fa_record: finished spans, phases, checkpoints */
    FA_TIMELINE,      /* ring of fa_tick, one a second at most                  */
    FA_TIMELINE_LONG, /* ring of fa_tick, one a minute at most                  */
    FA_EVENTS,        /* ring of fa_event                                       */
    FA_REGION_COUNT
};

struct fa_region {
    uint64_t offset;   /* from the start of the file */
    uint64_t used;     /* tables: entries in use, counted from index 0 (slot 0 included), never
                          more than capacity. Rings: entries ever written; the newest is at
                          (used - 1) % capacity. */
    uint32_t capacity; /* entries */
    uint32_t stride;   /* bytes of an entry */
};

/* What a thing's samples hold now, and what they held when the process's live heap was at its
 * high-water mark. The second pair is brought up to date lazily: when `peak` differs from
 * header.peak, the values before the next change are those of the last peak. So a reader takes
 * (live_*) as high-water where peak != header.peak, or while header.live_bytes is itself the
 * maximum (header.at_peak != 0). Counts are fixed point: 1/65536 of an allocation. */
struct fa_held {
    uint64_t live_bytes;
    uint64_t live_count_q16;
    uint64_t high_water_bytes;
    uint64_t high_water_count_q16;
    uint32_t peak;
    uint32_t samples; /* live samples */
};

enum fa_mode { FA_MODE_DISABLED, FA_MODE_STANDBY, FA_MODE_LIGHT, FA_MODE_AGGRESSIVE, FA_MODE_TARGETED };
enum fa_state { FA_STATE_EMPTY, FA_STATE_RUNNING, FA_STATE_STOPPED, FA_STATE_EXITED };
/* The control word. RUN and DISABLE also say how things stand; the others are asked for, and the process
 * puts one of the first two there when it has done so. */
enum fa_control {
    FA_CONTROL_RUN,
    FA_CONTROL_DISABLE,
    FA_CONTROL_ENABLE /* as it was before; ENABLE + n: in mode n of enum fa_mode */
};
/* Why recording is switched off while the process runs. */
enum fa_off {
    FA_OFF_NOT,
    FA_OFF_PROGRAM,  /* the program called fastalloc.disable() */
    FA_OFF_CONTROL,  /* the control word: `fastalloc disable` */
    FA_OFF_FILE,     /* the file `disabled` in the folder */
    FA_OFF_KEY,      /* the shared key of kill_switch_url */
    FA_OFF_OVERHEAD, /* recording took more CPU time than overhead_percent, even at the widest interval */
    FA_OFF_GUARD     /* usage passed guard_percent: no samples; frees and failed allocations are seen */
};
enum fa_free_design { FA_FREE_DIVERT, FA_FREE_FILTER };
/* MALLOC and MMAP: native memory, asked of the C library past Python's domains. */
enum fa_domain {
    FA_DOMAIN_RAW,
    FA_DOMAIN_MEM,
    FA_DOMAIN_OBJ,
    FA_DOMAIN_ARENA,
    FA_DOMAIN_MALLOC,
    FA_DOMAIN_MMAP,
    FA_DOMAIN_COUNT
};
enum fa_guard {
    FA_GUARD_OFF,    /* no limit is known, or guard_percent is 0 */
    FA_GUARD_ARMED,
    FA_GUARD_WARNED, /* usage passed summary_percent */
    FA_GUARD_TRIPPED /* usage passed guard_percent; tracking stops */
};
/* How a process ended, as far as it could say so itself. Killed: nothing was said. */
enum fa_exit {
    FA_EXIT_UNKNOWN,
    FA_EXIT_CLEAN,     /* the interpreter finished */
    FA_EXIT_EXCEPTION, /* exit_name: its class */
    FA_EXIT_SIGNAL     /* exit_name: the signal's name */
};

enum fa_loss {
    FA_LOSS_STRINGS,      /* a name could not be stored: table full               */
    FA_LOSS_FUNCTIONS,    /* a frame's function could not be stored               */
    FA_LOSS_NODES,        /* a stack could not be stored                          */
    FA_LOSS_SITES,        /* a sample went to site 0: table full                  */
    FA_LOSS_LIVE,         /* a sample was dropped: live table full                */
    FA_LOSS_DEEP_STACK,   /* a stack was cut at max_frames, leaf-most frames kept */
    FA_LOSS_NO_STACK,     /* a sample has no Python stack                         */
    FA_LOSS_THREADS,      /* a thread got no slot: its allocations are not seen   */
    FA_LOSS_SPANS,        /* a span got no entry: its samples count for the process */
    FA_LOSS_PHASES,       /* likewise a phase                                     */
    FA_LOSS_THREAD_NAMES, /* a thread's name was folded into "(other)"            */
    FA_LOSS_STALE,        /* a live sample's address was allocated again: its free went unseen */
    FA_LOSS_REENTRANT,    /* a sample was skipped: the thread was already recording */
    FA_LOSS_FORK,         /* a fork whose child could not go on recording         */
    FA_LOSS_DISPLACED,    /* another tool removed our hooks                       */
    FA_LOSS_COUNT
};

#define FA_UNKNOWN UINT64_MAX

/* What resident memory consists of, as last looked at; only when asked for (resident.h). Bytes; FA_UNKNOWN
 * where it cannot be told here. All zero: never looked at. */
struct fa_resident {
    uint64_t time_ns;
    uint64_t anon_bytes;        /* resident anonymous pages */
    uint64_t file_bytes;        /* of mapped files */
    uint64_t shmem_bytes;       /* of tmpfs, memfd and shared anonymous memory */
    uint64_t arena_bytes;       /* held by the object allocator, since before the start too */
    uint64_t arena_live_bytes;  /* of these, in blocks that are not freed; exact */
    uint64_t malloc_live_bytes; /* in blocks of the C library's malloc; with what Python has of it */
    uint64_t malloc_free_bytes; /* held by it and not handed out, resident or not */
    uint64_t malloc_free_count; /* in so many pieces */
    uint64_t own_anon_bytes;    /* the recorder's own share of anon, file and shmem */
    uint64_t own_file_bytes;
    uint64_t own_shmem_bytes;
};

struct fa_header {
    char magic[8];
    uint32_t layout_version;
    uint32_t header_bytes;
    uint64_t file_bytes;
    uint32_t sequence; /* even: stable. odd: a writer is inside, or died inside */
    uint32_t control;  /* enum fa_control; any process of the same user may write it */

    uint32_t pid;
    uint32_t parent_pid;
    uint64_t process_start_ticks; /* /proc/self/stat field 22: tells a reused pid */
    uint64_t start_time_ns;       /* CLOCK_REALTIME */
    uint64_t start_monotonic_ns;
    uint64_t updated_ns;          /* last write under the lock */
    uint64_t stopped_ns;          /* 0 while running */
    uint64_t forked_ns;           /* in a child: when it left its parent (its clock goes on) */

    uint32_t python_version; /* PY_VERSION_HEX */
    uint32_t mode;           /* enum fa_mode */
    uint32_t state;          /* enum fa_state */
    uint32_t free_design;    /* enum fa_free_design */
    uint32_t max_frames;
    uint32_t process_phase;  /* index into FA_PHASES: what runs outside all spans */
    uint64_t interval_bytes;

    /* the live heap, estimated */
    uint64_t live_bytes;
    uint64_t live_count_q16;
    uint64_t live_samples;
    uint64_t high_water_bytes;
    uint64_t high_water_count_q16;
    uint64_t high_water_ns;
    uint32_t peak;    /* how many high-water marks were left behind */
    uint32_t at_peak; /* 1: live_bytes is the maximum just now */

    uint64_t ended_count; /* exact: allocations of threads that have exited */
    uint64_t ended_bytes;
    uint64_t samples;     /* ever taken */
    uint64_t freed;       /* of these, freed again */
    uint64_t arena_bytes; /* mapped by the object allocator since start (may fall below 0: signed) */
    uint64_t next_span_id;

    uint64_t rss_bytes;    /* as last read */
    uint64_t cgroup_bytes; /* likewise; 0: no cgroup file */
    uint64_t limit_bytes;  /* the memory limit in force, 0: none known */
    uint64_t usage_ns;     /* when these were read */

    /* the guard */
    uint32_t guard_state;     /* enum fa_guard */
    uint32_t guard_trips;     /* how often usage passed guard_percent */
    uint32_t guard_percent;   /* of limit_bytes */
    uint32_t summary_percent;
    uint64_t guard_ns;          /* of the last trip, 0: never */
    uint64_t guard_usage_bytes; /* usage at the trip, without the allocation that was to be made */
    uint64_t guard_size;        /* that allocation's bytes; 0: it was memory touched or mapped otherwise */

    uint32_t dump_requests; /* dumps ever asked for; any process of the same user may add one */
    uint32_t dumps;         /* dumps written */
    uint32_t exit_kind;     /* enum fa_exit */
    uint32_t exit_name;     /* string id */
    uint64_t oom_kills_at_start; /* kills for memory that the process's own cgroup had counted then */
    uint64_t own_cpu_ns;         /* CPU time spent recording samples, measured */
    uint32_t sweeps;   /* how often stacks that nothing refers to were given up; indices changed then */
    uint32_t sweeping; /* 1 in a dead process's file: it died in a sweep, no stack is to be trusted */
    uint32_t off;                /* enum fa_off */
    uint32_t own_cpu_millionths; /* own CPU time as a part of the process's, when last compared */
    uint64_t exit_ns;            /* when exit_kind was written */
    uint64_t limit_usage_bytes;  /* what limit_bytes is compared with, as last read by the guard */
    uint32_t limit_index;        /* which of the options' `limits` limit_bytes is */
    uint32_t resident_requests;  /* looks at resident memory ever asked for; any process of the same user may add one */
    uint64_t pid_namespace;      /* in which `pid` counts: inode of /proc/self/ns/pid; 0: not known */
    struct fa_resident resident;

    uint32_t native;             /* 1: malloc and mmap are hooked while mode is not DISABLED, or were at the end */
    uint32_t native_slots;       /* addresses of theirs in loaded objects that lead to us */
    uint32_t native_reason;      /* string id: why they are not hooked, or what is amiss; 0: nothing to say */
    uint32_t native_unused;

    uint64_t losses[FA_LOSS_COUNT];
    uint32_t live_free;    /* head of the free list of FA_LIVE (chained through `site`) */
    uint32_t spans_free;   /* likewise FA_SPANS (chained through `name`) */
    struct fa_region regions[FA_REGION_COUNT];
};

/* One running thread. The first four fields are written by the thread itself on every
 * allocation, without a lock; the rest under the recorder's lock, or by the thread alone.
 *
 *   bytes allocated by the thread = issued - left
 *
 * since every byte handed out is taken from `left`, and `issued` is what was ever put in. */
struct fa_thread {
    int64_t left;          /* countdown: bytes until this thread must look up */
    uint64_t count;        /* allocations, exact */
    uint64_t issued;       /* bytes ever put into `left` */
    uint32_t scope;        /* the present scope: private to the process, readers use span and phase */
    uint32_t generation;   /* of the recording this slot was registered in */
    uint64_t rng;
    uint64_t interval;     /* under which the present draw was made */
    int64_t residual;      /* of the draw, beyond `left` (draws are capped) */
    uint64_t counted_block; /* private to the process: see small_realloc() */
    uint64_t count_mark;   /* count and bytes when the present scope was entered */
    uint64_t bytes_mark;
    uint32_t tid;
    uint32_t name;         /* index into FA_THREAD_NAMES */
    uint32_t span;         /* the present scope: indices into FA_SPANS and FA_PHASES */
    uint32_t phase;
    uint64_t start_ns;     /* 0: slot is free */
    uint32_t outer_scope;  /* to go back to when the running task is suspended */
    uint32_t scope_interval; /* of the present scope, where it is recorded closely; 0: the process's */
    uint64_t seen_by_guard; /* private to the process: bytes when it last came by the guard */
    uint64_t stratum_rest;  /* from the coming event to the end of its stratum, see sampler.h */
};

#define FA_MODULE_LINE INT32_MIN

struct fa_function {
    uint32_t name;  /* string id: qualified name */
    uint32_t file;  /* string id */
    int32_t first_line; /* FA_MODULE_LINE: this is no function, but a module (a loaded ELF file): `name` is
                           its build id in hex or "headers-" and a hash of its program headers, `file` its path */
    uint32_t line_table_hash; /* tells two functions of one name and line apart (code made at run time) */
};

struct fa_node {
    uint32_t parent;   /* 0: this is the root-most frame. Always smaller than the node's index */
    uint32_t function; /* 0: "the stack was cut here" */
    int32_t line;
    int32_t lasti;     /* instruction: several may share a line; readers merge them. In a module: the
                          (unsigned) address of the call in the file, its symbol to be looked up there */
};

struct fa_site {
    uint32_t node;   /* leaf; 0: no Python stack */
    uint32_t domain; /* enum fa_domain */
    struct fa_held held;
    uint64_t total_bytes;     /* ever allocated here, estimated */
    uint64_t total_count_q16;
};

struct fa_live {
    uint64_t address;  /* 0: free slot */
    uint64_t size;     /* bytes the caller asked for */
    uint64_t weight;   /* bytes this sample stands for */
    uint64_t time_ns;
    uint32_t site;     /* free slot: next free */
    uint32_t span;
    uint32_t phase;
    uint32_t tid;
    uint32_t thread_name;
    uint32_t domain;
    uint64_t generation; /* private to the process; of a sample taken out, with `sweeps` in the high half */
};

struct fa_freed {
    uint64_t time_ns;  /* allocated */
    uint64_t freed_ns;
    uint64_t address;
    uint64_t size;
    uint64_t weight;
    uint32_t site;
    uint32_t tid;
    uint64_t span_id;
    uint32_t phase;
    uint32_t thread_name;
};

#define FA_ATTRIBUTES_BYTES 128

struct fa_span {
    uint64_t id;        /* 1, 2, 3... in this process; 0: free entry */
    uint64_t parent_id; /* 0: none */
    uint64_t start_ns;
    uint64_t end_ns;    /* 0: open */
    uint64_t count;     /* exact, of this span's own steps, in whatever thread */
    uint64_t bytes;
    uint32_t name;      /* string id; free entry: next free */
    uint32_t thread_name;
    uint32_t pins;      /* scopes of the program that can still allocate in it */
    uint32_t tid;       /* that opened it */
    struct fa_held held;
    uint64_t peak_bytes; /* the most that its samples ever held at once, estimated */
    char attributes[FA_ATTRIBUTES_BYTES]; /* UTF-8 "key=value key=value", NUL-terminated, cut to fit */
};

struct fa_phase {
    uint32_t name;      /* string id; the span's own name: the span outside its named phases */
    uint32_t span_name; /* string id; 0: a phase of the process */
    uint64_t entered;
    uint64_t count;     /* exact, own (phases nested in it count for themselves) */
    uint64_t bytes;
    struct fa_held held;
};

struct fa_thread_name {
    uint32_t name; /* string id */
    uint32_t reserved;
    struct fa_held held;
};

enum fa_record_kind { FA_RECORD_SPAN = 1, FA_RECORD_PHASE, FA_RECORD_CHECKPOINT };

struct fa_record {
    uint64_t sequence; /* 1-based number of this record: used after it was written */
    uint64_t time_ns;  /* end; for a checkpoint: the instant */
    uint64_t start_ns; /* span, phase: its start; checkpoint: the span's, or 0 */
    uint64_t span_id;  /* 0: outside all spans */
    uint64_t count;    /* exact: span, phase: its own, with all nested in it; checkpoint: the span's so far */
    uint64_t bytes;
    int64_t live_change_bytes; /* of the process's live heap between start and end, estimated */
    uint64_t live_bytes;
    uint64_t rss_bytes;
    uint64_t cgroup_bytes;
    uint32_t kind;     /* enum fa_record_kind */
    uint32_t name;     /* string id */
    uint32_t span_name;
    uint32_t thread_name;
    uint32_t tid;
    uint32_t reserved;
};

struct fa_tick {
    uint64_t time_ns;
    uint64_t rss_bytes;
    uint64_t cgroup_bytes;
    uint64_t live_bytes;
    uint64_t count; /* exact: allocations of the whole process so far */
    uint64_t bytes;
};

enum fa_event_kind {
    FA_EVENT_START = 1, /* a: mode, b: interval                     */
    FA_EVENT_STOP,      /* a: 1 at exit                             */
    FA_EVENT_MODE,      /* a: old mode, b: new mode                 */
    FA_EVENT_INTERVAL,  /* a: old, b: new, asked for                */
    FA_EVENT_THINNED,   /* a: old interval, b: new: live table full */
    FA_EVENT_FORK,      /* in the child; a: parent's pid            */
    FA_EVENT_FAILED_ALLOCATION, /* a: size, b: domain; with stack. The upper half of b counts repeats at the
                                 * same stack: the event is then the last of them, a the largest size */
    FA_EVENT_CONTROL,   /* a: control word, b: enum fa_off          */
    FA_EVENT_DISPLACED, /* our hooks were removed by another tool   */
    FA_EVENT_PHASE,     /* the process went to another phase; a: its index */
    FA_EVENT_GUARD,     /* a: new enum fa_guard, b: usage in bytes; tripped: with the allocating stack */
    FA_EVENT_DUMP,      /* a: 1 begun, 2 complete, 3 failed; b: milliseconds */
    FA_EVENT_OVERHEAD,  /* a: own CPU time in millionths of the process's, b: interval from now on, 0: off */
    FA_EVENT_NATIVE,    /* a: enum fa_native_event; b: slots that hold a hook now */
    FA_EVENT_BREAKER,   /* a: 1 a layer was switched off, 0: is on again; `span` names the layer */
    FA_EVENT_LIMIT      /* a: old memory limit, b: new, 0: none; `span` names its source */
};

enum fa_native_event {
    FA_NATIVE_OFF, /* malloc and mmap are not hooked, or not any more: native_reason says why */
    FA_NATIVE_ON,  /* they are from now on */
    FA_NATIVE_GAP  /* another tool had taken hooks away and has left; they are back, native samples were dropped */
};

struct fa_event {
    uint64_t sequence;
    uint64_t time_ns;
    uint64_t a;
    uint64_t b;
    uint32_t kind; /* enum fa_event_kind */
    uint32_t node; /* stack, 0: none */
    uint32_t span; /* string id: the span's name (BREAKER: the layer's, LIMIT: its source), 0: none */
    uint32_t tid;
    uint64_t span_id;
    uint64_t rss_bytes;
};

_Static_assert(sizeof(struct fa_thread) == 128, "a slot fills two cache lines and shares none");
_Static_assert(sizeof(struct fa_header) <= FA_PAGE_BYTES, "the header is one page");
_Static_assert(sizeof(struct fa_live) == 64, "a live sample fills a cache line");
_Static_assert(sizeof(struct fa_node) == 16, "");
_Static_assert(sizeof(struct fa_site) == 64, "");
_Static_assert(sizeof(struct fa_freed) == 64, "");
_Static_assert(sizeof(struct fa_span) == 240, "");
_Static_assert(sizeof(struct fa_phase) == 72, "");
_Static_assert(sizeof(struct fa_record) == 104, "");
_Static_assert(sizeof(struct fa_event) == 64, "");

#endif
