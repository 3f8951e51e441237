#define _GNU_SOURCE
#include "usage.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "recorder.h"

#define NO_LIMIT ((uint64_t)1 << 60) /* cgroup v1 writes "none" as a number near 2**63 */
#define HIERARCHICAL "hierarchical_memory_limit "
#define AVAILABLE "MemAvailable:"
#define MACHINE_SHARE 64 /* a 64th of the machine's memory */

struct usage_file {
    char path[512];
    int fd;
    dev_t device; /* of what we opened */
    ino_t inode;
};

static struct usage_file statm = {.path = "/proc/self/statm", .fd = -1};
static struct usage_file machine = {.fd = -1}; /* /proc/meminfo */

/* Cgroups: the first is the one whose usage is noted in the recording. */
static struct group {
    struct usage_file usage, stat;
} groups[FA_LIMITS + 1];
static unsigned group_count;

static struct {
    uint64_t bytes; /* as last read, 0: none */
    enum fa_limit_kind kind;
    unsigned group;         /* of a cgroup's limit */
    struct usage_file file; /* likewise: tells the limit */
} limits[FA_LIMITS];
static unsigned limit_count;
static uint64_t limits_ns; /* when their files were read, 0: never */

static long page_bytes;

/* One thread at a time reads or opens; another one that comes along does without. */
static char busy;

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
    if (file->fd < 0) return;
    /* Out of the way of programs that expect the next small number for a file of theirs. */
    int high = fcntl(file->fd, F_DUPFD_CLOEXEC, 200);
    if (high >= 0) {
        close(file->fd);
        file->fd = high;
    }
    if (fstat(file->fd, &is) == 0) {
        file->device = is.st_dev;
        file->inode = is.st_ino;
    }
}

static void file_name(struct usage_file *file, const char *path)
{
    int fits = path && strlen(path) < sizeof file->path;
    strcpy(file->path, fits ? path : "");
}

/* The file's first bytes as text; its length, 0 if it cannot be read. */
static size_t file_read(struct usage_file *file, char *text, size_t capacity)
{
    if (!file->path[0]) return 0;
    if (!is_ours(file)) file_open(file);
    if (file->fd < 0) return 0;
    ssize_t length = pread(file->fd, text, capacity - 1, 0);
    if (length < 0) length = 0;
    text[length] = 0;
    return (size_t)length;
}

static uint64_t number_at(const char *at)
{
    uint64_t number = 0;
    while (at && *at >= '0' && *at <= '9') number = number * 10 + (uint64_t)(*at++ - '0');
    return number;
}

struct own {
    uint64_t size, rss, data; /* VmSize, VmRSS, VmData (with the main thread's stack) */
};

static struct own own_now(void)
{
    char text[160]; /* "size resident shared text lib data dt", in pages */
    uint64_t fields[6] = {0};
    const char *at = file_read(&statm, text, sizeof text) ? text : NULL;
    for (int i = 0; at && i < 6; i++) {
        fields[i] = number_at(at) * (uint64_t)page_bytes;
        at = strchr(at, ' ');
        if (at) at++;
    }
    return (struct own){fields[0], fields[1], fields[5]};
}

static uint64_t group_now(unsigned index)
{
    char text[32];
    return file_read(&groups[index].usage, text, sizeof text) ? number_at(text) : 0;
}

/* Page cache that the kernel drops before it kills: "inactive_file N" (v2, without what is below
 * us) or "total_inactive_file N" (v1). */
static uint64_t inactive_file_now(unsigned index)
{
    static const char *const names[] = {"\ntotal_inactive_file ", "\ninactive_file "};
    char text[4096];
    if (!file_read(&groups[index].stat, text, sizeof text)) return 0;
    for (int i = 0; i < 2; i++) {
        const char *at = strstr(text, names[i]);
        if (at) return number_at(at + strlen(names[i]));
    }
    return 0;
}

/* What the whole machine uses and cannot drop: MemTotal less MemAvailable. A process that has next to nothing
 * is not what fills it, and would give up its recording for the sake of others: its own usage is told. */
static uint64_t machine_now(uint64_t total, const struct own *own)
{
    char text[256];
    if (own->rss < total / MACHINE_SHARE || !file_read(&machine, text, sizeof text)) return own->rss;
    const char *at = strstr(text, AVAILABLE);
    if (!at) return own->rss; /* Linux before 3.14 */
    at += strlen(AVAILABLE);
    while (*at == ' ') at++;
    uint64_t available = number_at(at) * 1024;
    return available < total ? total - available : 0;
}

static uint64_t resource_limit(int which)
{
    struct rlimit limit;
    return getrlimit(which, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY ? limit.rlim_cur : 0;
}

/* In a file of its own, or a line of cgroup v1's memory.stat, which knows of ancestors that cannot be seen. */
static uint64_t limit_now(unsigned index)
{
    char text[4096];
    const char *at = text;
    if (!file_read(&limits[index].file, text, sizeof text)) return limits[index].bytes;
    const char *line = strstr(text, HIERARCHICAL);
    if (line) at = line + strlen(HIERARCHICAL);
    uint64_t bytes = number_at(at); /* "max": 0 */
    return bytes < NO_LIMIT ? bytes : 0;
}

static void limits_read(int afresh)
{
    uint64_t now = fa_now_ns();
    int files = afresh || !limits_ns || now - limits_ns >= USAGE_LIMITS_NS;
    if (files) limits_ns = now | 1;
    for (unsigned i = 0; i < limit_count; i++) {
        if (limits[i].kind == FA_LIMIT_ADDRESS_SPACE) limits[i].bytes = resource_limit(RLIMIT_AS);
        if (limits[i].kind == FA_LIMIT_DATA) limits[i].bytes = resource_limit(RLIMIT_DATA);
        if (limits[i].kind == FA_LIMIT_CGROUP && files) limits[i].bytes = limit_now(i);
    }
}

/* The machine's own holds where nothing smaller is meant to. */
static int is_confined(uint64_t total)
{
    for (unsigned i = 0; i < limit_count; i++) {
        int is_allotted = limits[i].kind == FA_LIMIT_CGROUP || limits[i].kind == FA_LIMIT_RESIDENT;
        if (is_allotted && limits[i].bytes && limits[i].bytes < total) return 1;
    }
    return 0;
}

/* Index of the group with this file of its usage. */
static unsigned group_open(const char *path)
{
    for (unsigned i = 0; i < group_count; i++)
        if (strcmp(groups[i].usage.path, path) == 0) return i;
    struct group *group = &groups[group_count];
    const char *slash = strrchr(path, '/');
    group->usage.path[0] = group->stat.path[0] = 0;
    if (slash && strlen(path) < sizeof group->usage.path - sizeof "memory.stat") {
        size_t folder = (size_t)(slash + 1 - path);
        strcpy(group->usage.path, path);
        memcpy(group->stat.path, path, folder);
        strcpy(group->stat.path + folder, "memory.stat");
    }
    return group_count++;
}

void usage_open(const char *cgroup_usage_path, const struct fa_limit *given, unsigned count)
{
    while (__atomic_test_and_set(&busy, __ATOMIC_ACQUIRE)) sched_yield(); /* a reader: microseconds */
    page_bytes = sysconf(_SC_PAGESIZE);
    if (!is_ours(&statm)) file_open(&statm);
    for (unsigned i = 0; i < group_count; i++) {
        file_close(&groups[i].usage);
        file_close(&groups[i].stat);
    }
    group_count = 0;
    for (unsigned i = 0; i < FA_LIMITS + 1; i++) groups[i].usage.fd = groups[i].stat.fd = -1;
    group_open(cgroup_usage_path ? cgroup_usage_path : "");
    for (unsigned i = 0; i < limit_count; i++) file_close(&limits[i].file);
    file_close(&machine);
    limit_count = count < FA_LIMITS ? count : FA_LIMITS;
    limits_ns = 0;
    for (unsigned i = 0; i < limit_count; i++) {
        limits[i].bytes = given[i].bytes;
        limits[i].kind = (enum fa_limit_kind)given[i].kind;
        limits[i].group = given[i].kind == FA_LIMIT_CGROUP ? group_open(given[i].usage_path) : 0;
        limits[i].file.fd = -1;
        file_name(&limits[i].file, given[i].kind == FA_LIMIT_CGROUP ? given[i].path : NULL);
        if (given[i].kind == FA_LIMIT_MACHINE) file_name(&machine, given[i].usage_path);
    }
    __atomic_clear(&busy, __ATOMIC_RELEASE);
}

void usage_reopen(void)
{
    __atomic_clear(&busy, __ATOMIC_RELAXED); /* another thread may have been reading at the fork */
    file_close(&statm);
    file_open(&statm);
    limits_ns = 0;
}

unsigned usage_limit_count(void)
{
    return limit_count;
}

enum fa_limit_kind usage_limit_kind(unsigned index)
{
    return limits[index].kind;
}

const char *usage_limit_source(unsigned index)
{
    static const char *const names[] = {"memory_limit_bytes", "", "RLIMIT_AS", "RLIMIT_DATA", "MemTotal"};
    return limits[index].kind == FA_LIMIT_CGROUP ? limits[index].file.path : names[limits[index].kind];
}

static void note(uint64_t rss, uint64_t of_cgroup)
{
    __atomic_store_n(&fa.header->usage_ns, fa_now_ns(), __ATOMIC_RELAXED);
    __atomic_store_n(&fa.header->rss_bytes, rss, __ATOMIC_RELAXED);
    __atomic_store_n(&fa.header->cgroup_bytes, of_cgroup, __ATOMIC_RELAXED);
}

void usage_refresh(uint64_t now_ns, uint64_t older_than_ns)
{
    if (!fa.header) return;
    uint64_t last = __atomic_load_n(&fa.header->usage_ns, __ATOMIC_RELAXED);
    if (older_than_ns && last && (int64_t)(now_ns - last) < (int64_t)older_than_ns) return;
    if (__atomic_test_and_set(&busy, __ATOMIC_ACQUIRE)) return;
    int saved = errno;
    note(own_now().rss, group_count ? group_now(0) : 0);
    __atomic_clear(&busy, __ATOMIC_RELEASE);
    errno = saved;
}

int usage_read(struct usage *reading, int afresh)
{
    if (!fa.header || __atomic_test_and_set(&busy, __ATOMIC_ACQUIRE)) return 0;
    int saved = errno;
    uint64_t of_group[FA_LIMITS + 1];
    struct own own = own_now();
    limits_read(afresh);
    for (unsigned i = 0; i < group_count; i++) of_group[i] = group_now(i);
    note(own.rss, group_count ? of_group[0] : 0);
    for (unsigned i = 0; i < limit_count; i++) {
        uint64_t used = own.rss, limit = limits[i].bytes;
        switch (limits[i].kind) {
        case FA_LIMIT_RESIDENT: break;
        case FA_LIMIT_ADDRESS_SPACE: used = own.size; break;
        case FA_LIMIT_DATA: used = own.data; break;
        case FA_LIMIT_MACHINE:
            if (is_confined(limit)) limit = 0;
            else used = machine_now(limit, &own);
            break;
        case FA_LIMIT_CGROUP:
            used = of_group[limits[i].group];
            if (limit && used > limit / 2) {
                uint64_t cache = inactive_file_now(limits[i].group);
                used -= cache < used ? cache : used;
            }
        }
        reading->used[i] = used;
        reading->limit[i] = limit;
    }
    __atomic_clear(&busy, __ATOMIC_RELEASE);
    errno = saved;
    return 1;
}

unsigned usage_percent(void)
{
    struct usage now;
    unsigned most = 0;
    if (!limit_count || !usage_read(&now, 0)) return 0;
    for (unsigned i = 0; i < limit_count; i++) {
        uint64_t percent = now.limit[i] ? now.used[i] * 100 / now.limit[i] : 0;
        if (percent > most) most = (unsigned)percent;
    }
    return most;
}

int64_t usage_headroom(void)
{
    struct usage now;
    int64_t least = INT64_MAX;
    if (!limit_count || !usage_read(&now, 0)) return -1;
    for (unsigned i = 0; i < limit_count; i++) {
        int64_t left = now.used[i] < now.limit[i] ? (int64_t)(now.limit[i] - now.used[i]) : 0;
        if (now.limit[i] && left < least) least = left;
    }
    return least < INT64_MAX ? least : -1;
}
