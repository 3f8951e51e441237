#define _GNU_SOURCE
#include "usage.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "recorder.h"

struct usage_file {
    char path[512];
    int fd;
    dev_t device; /* of what we opened */
    ino_t inode;
};

static struct usage_file statm = {.path = "/proc/self/statm", .fd = -1};

/* Cgroups: the first is the one whose usage is noted in the recording. */
static struct group {
    struct usage_file usage, stat;
} groups[FA_LIMITS + 1];
static unsigned group_count;

static struct {
    struct fa_limit limit;
    unsigned group; /* of a cgroup's limit */
} limits[FA_LIMITS];
static unsigned limit_count;

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
    limit_count = count < FA_LIMITS ? count : FA_LIMITS;
    for (unsigned i = 0; i < limit_count; i++) {
        limits[i].limit = given[i];
        limits[i].limit.usage_path = NULL;
        limits[i].group = given[i].kind == FA_LIMIT_CGROUP ? group_open(given[i].usage_path) : 0;
    }
    __atomic_clear(&busy, __ATOMIC_RELEASE);
}

void usage_reopen(void)
{
    __atomic_clear(&busy, __ATOMIC_RELAXED); /* another thread may have been reading at the fork */
    file_close(&statm);
    file_open(&statm);
}

unsigned usage_limit_count(void)
{
    return limit_count;
}

const struct fa_limit *usage_limit(unsigned index)
{
    return &limits[index].limit;
}

static void note(uint64_t rss, uint64_t of_cgroup)
{
    __atomic_store_n(&fa.header->usage_ns, fa_now_ns(), __ATOMIC_RELAXED);
    __atomic_store_n(&fa.header->rss_bytes, rss, __ATOMIC_RELAXED);
    __atomic_store_n(&fa.header->cgroup_bytes, of_cgroup, __ATOMIC_RELAXED);
}

void usage_refresh(uint64_t older_than_ns)
{
    if (!fa.header) return;
    uint64_t now = fa_now_ns();
    uint64_t last = __atomic_load_n(&fa.header->usage_ns, __ATOMIC_RELAXED);
    if (older_than_ns && last && now - last < older_than_ns) return;
    if (__atomic_test_and_set(&busy, __ATOMIC_ACQUIRE)) return;
    int saved = errno;
    note(own_now().rss, group_count ? group_now(0) : 0);
    __atomic_clear(&busy, __ATOMIC_RELEASE);
    errno = saved;
}

int usage_read(uint64_t used[FA_LIMITS])
{
    if (!fa.header || __atomic_test_and_set(&busy, __ATOMIC_ACQUIRE)) return 0;
    int saved = errno;
    uint64_t of_group[FA_LIMITS + 1];
    struct own own = own_now();
    for (unsigned i = 0; i < group_count; i++) of_group[i] = group_now(i);
    note(own.rss, group_count ? of_group[0] : 0);
    for (unsigned i = 0; i < limit_count; i++) {
        const struct fa_limit *limit = &limits[i].limit;
        switch (limit->kind) {
        case FA_LIMIT_ADDRESS_SPACE: used[i] = own.size; break;
        case FA_LIMIT_DATA: used[i] = own.data; break;
        case FA_LIMIT_CGROUP:
            used[i] = of_group[limits[i].group];
            if (used[i] > limit->bytes / 2) {
                uint64_t cache = inactive_file_now(limits[i].group);
                used[i] -= cache < used[i] ? cache : used[i];
            }
            break;
        default: used[i] = own.rss;
        }
    }
    __atomic_clear(&busy, __ATOMIC_RELEASE);
    errno = saved;
    return 1;
}

unsigned usage_percent(void)
{
    uint64_t used[FA_LIMITS];
    unsigned most = 0;
    if (!limit_count || !usage_read(used)) return 0;
    for (unsigned i = 0; i < limit_count; i++) {
        uint64_t percent = used[i] * 100 / limits[i].limit.bytes;
        if (percent > most) most = (unsigned)percent;
    }
    return most;
}

int64_t usage_headroom(void)
{
    uint64_t used[FA_LIMITS];
    int64_t least = INT64_MAX;
    if (!limit_count || !usage_read(used)) return -1;
    for (unsigned i = 0; i < limit_count; i++) {
        int64_t left = used[i] < limits[i].limit.bytes ? (int64_t)(limits[i].limit.bytes - used[i]) : 0;
        if (left < least) least = left;
    }
    return least;
}
