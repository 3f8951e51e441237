#define _GNU_SOURCE
#include "records.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "sampler.h"

void record_write(struct fa_record *record)
{
    struct fa_region *region = &REGION(FA_RECORDS);
    record->rss_bytes = fa.header->rss_bytes;
    record->cgroup_bytes = fa.header->cgroup_bytes;
    record->live_bytes = fa.header->live_bytes;
    record->sequence = region->used + 1;
    *RING_SLOT(fa.records, FA_RECORDS, region->used) = *record;
    region->used++;
    fa.header->updated_ns = record->time_ns;
}

void event_write(enum fa_event_kind kind, uint64_t a, uint64_t b, uint32_t node)
{
    struct fa_region *region = &REGION(FA_EVENTS);
    const struct fa_thread *slot = fa_tls.slot;
    const struct fa_span *span = &fa.spans[slot == &fa_nobody ? 0 : slot->span];
    *RING_SLOT(fa.events, FA_EVENTS, region->used) = (struct fa_event){
        .sequence = region->used + 1,
        .time_ns = fa_now_ns(),
        .a = a,
        .b = b,
        .kind = kind,
        .node = node,
        .span = span->id ? span->name : 0,
        .span_id = span->id,
        .tid = slot == &fa_nobody ? (uint32_t)syscall(SYS_gettid) : slot->tid,
        .rss_bytes = fa.header->rss_bytes,
    };
    region->used++;
}

/* --- usage ------------------------------------------------------------------------------ */

struct usage_file {
    char path[512];
    int fd;
    dev_t device; /* of what we opened */
    ino_t inode;
};

static struct usage_file statm = {.path = "/proc/self/statm", .fd = -1};
static struct usage_file cgroup = {.fd = -1};

static long page_bytes;

/* The program may close all descriptors (a daemon does) and get the number for a file of its own. */
static int is_ours(const struct usage_file *file)
{
    struct stat is;
    return file->fd >= 0 && fstat(file->fd, &is) == 0 && is.st_dev == file->device && is.st_ino == file->inode;
}

static void file_close(struct usage_file *file)
{
    if (is_ours(file)) close(file->fd);
    file->fd = -1;
}

static void file_open(struct usage_file *file)
{
    struct stat is;
    file->fd = file->path[0] ? open(file->path, O_RDONLY | O_CLOEXEC) : -1;
    if (file->fd >= 0 && fstat(file->fd, &is) == 0) {
        file->device = is.st_dev;
        file->inode = is.st_ino;
    }
}

/* The `field`-th number in the file; 0 if it cannot be read. */
static uint64_t file_number(struct usage_file *file, int field)
{
    char text[160];
    if (!file->path[0]) return 0;
    if (!is_ours(file)) file_open(file);
    if (file->fd < 0) return 0;
    ssize_t length = pread(file->fd, text, sizeof text - 1, 0);
    if (length <= 0) return 0;
    text[length] = 0;
    const char *at = text;
    while (field-- && at) {
        at = strchr(at, ' ');
        if (at) at++;
    }
    uint64_t number = 0;
    while (at && *at >= '0' && *at <= '9') number = number * 10 + (uint64_t)(*at++ - '0');
    return number;
}

void usage_open(const char *cgroup_usage_path)
{
    page_bytes = sysconf(_SC_PAGESIZE);
    if (!is_ours(&statm)) file_open(&statm);
    file_close(&cgroup);
    cgroup.path[0] = 0;
    if (cgroup_usage_path && strlen(cgroup_usage_path) < sizeof cgroup.path) {
        strcpy(cgroup.path, cgroup_usage_path);
        file_open(&cgroup);
    }
}

void usage_reopen(void)
{
    file_close(&statm);
    file_open(&statm);
}

void usage_refresh(uint64_t older_than_ns)
{
    if (!fa.header) return;
    uint64_t now = fa_now_ns();
    uint64_t last = __atomic_load_n(&fa.header->usage_ns, __ATOMIC_RELAXED);
    if (older_than_ns && last && now - last < older_than_ns) return;
    if (!__atomic_compare_exchange_n(&fa.header->usage_ns, &last, now, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        return; /* another thread is at it */
    int saved = errno;
    uint64_t rss = file_number(&statm, 1) * (uint64_t)page_bytes;
    uint64_t used = file_number(&cgroup, 0);
    __atomic_store_n(&fa.header->rss_bytes, rss, __ATOMIC_RELAXED);
    __atomic_store_n(&fa.header->cgroup_bytes, used, __ATOMIC_RELAXED);
    errno = saved;
}

static void totals(uint64_t *count, uint64_t *bytes)
{
    *count = fa.header->ended_count;
    *bytes = fa.header->ended_bytes;
    for (uint32_t i = 1; i < REGION(FA_THREADS).used; i++) {
        if (!fa.threads[i].start_ns) continue;
        *count += fa.threads[i].count;
        *bytes += sampler_bytes(&fa.threads[i]);
    }
}

static void append_tick(struct fa_tick *ring, struct fa_region *region, const struct fa_tick *tick, uint64_t every_ns)
{
    if (region->used && tick->time_ns - ring[(region->used - 1) % region->capacity].time_ns < every_ns) return;
    ring[region->used % region->capacity] = *tick;
    region->used++;
}

void timeline_tick(uint64_t now_ns)
{
    struct fa_region *region = &REGION(FA_TIMELINE);
    if (region->used && now_ns - fa.timeline[(region->used - 1) % region->capacity].time_ns < 1000000000ull) return;
    struct fa_tick tick = {
        .time_ns = now_ns,
        .rss_bytes = fa.header->rss_bytes,
        .cgroup_bytes = fa.header->cgroup_bytes,
        .live_bytes = fa.header->live_bytes,
    };
    totals(&tick.count, &tick.bytes);
    append_tick(fa.timeline, region, &tick, 0);
    append_tick(fa.timeline_long, &REGION(FA_TIMELINE_LONG), &tick, 60000000000ull);
}
