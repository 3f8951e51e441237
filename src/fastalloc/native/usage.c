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
static struct usage_file cgroup = {.fd = -1};
static struct usage_file cgroup_stat = {.fd = -1};

static long page_bytes;
static int limited_by_cgroup;

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

static uint64_t rss_now(void)
{
    char text[160]; /* "size resident shared ...", in pages */
    const char *at = file_read(&statm, text, sizeof text) ? strchr(text, ' ') : NULL;
    return at ? number_at(at + 1) * (uint64_t)page_bytes : 0;
}

static uint64_t cgroup_now(void)
{
    char text[32];
    return file_read(&cgroup, text, sizeof text) ? number_at(text) : 0;
}

/* Page cache that the kernel drops before it kills: "inactive_file N" (v2, without what is below
 * us) or "total_inactive_file N" (v1). */
static uint64_t inactive_file_now(void)
{
    static const char *const names[] = {"\ntotal_inactive_file ", "\ninactive_file "};
    char text[4096];
    if (!file_read(&cgroup_stat, text, sizeof text)) return 0;
    for (int i = 0; i < 2; i++) {
        const char *at = strstr(text, names[i]);
        if (at) return number_at(at + strlen(names[i]));
    }
    return 0;
}

void usage_open(const char *cgroup_usage_path, int limit_of_cgroup)
{
    while (__atomic_test_and_set(&busy, __ATOMIC_ACQUIRE)) sched_yield(); /* a reader: microseconds */
    limited_by_cgroup = limit_of_cgroup;
    page_bytes = sysconf(_SC_PAGESIZE);
    if (!is_ours(&statm)) file_open(&statm);
    file_close(&cgroup);
    file_close(&cgroup_stat);
    cgroup.path[0] = cgroup_stat.path[0] = 0;
    const char *slash = cgroup_usage_path ? strrchr(cgroup_usage_path, '/') : NULL;
    if (slash && strlen(cgroup_usage_path) < sizeof cgroup.path - sizeof "memory.stat") {
        size_t folder = (size_t)(slash + 1 - cgroup_usage_path);
        strcpy(cgroup.path, cgroup_usage_path);
        memcpy(cgroup_stat.path, cgroup_usage_path, folder);
        strcpy(cgroup_stat.path + folder, "memory.stat");
        file_open(&cgroup);
    }
    __atomic_clear(&busy, __ATOMIC_RELEASE);
}

void usage_reopen(void)
{
    __atomic_clear(&busy, __ATOMIC_RELAXED); /* another thread may have been reading at the fork */
    file_close(&statm);
    file_open(&statm);
}

void usage_refresh(uint64_t older_than_ns)
{
    if (!fa.header) return;
    uint64_t now = fa_now_ns();
    uint64_t last = __atomic_load_n(&fa.header->usage_ns, __ATOMIC_RELAXED);
    if (older_than_ns && last && now - last < older_than_ns) return;
    if (__atomic_test_and_set(&busy, __ATOMIC_ACQUIRE)) return;
    __atomic_store_n(&fa.header->usage_ns, now, __ATOMIC_RELAXED);
    int saved = errno;
    uint64_t rss = rss_now(), used = cgroup_now();
    __atomic_store_n(&fa.header->rss_bytes, rss, __ATOMIC_RELAXED);
    __atomic_store_n(&fa.header->cgroup_bytes, used, __ATOMIC_RELAXED);
    __atomic_clear(&busy, __ATOMIC_RELEASE);
    errno = saved;
}


unsigned usage_percent(void)
{
    if (!fa.header || !fa.header->limit_bytes) return 0;
    int saved = errno;
    uint64_t used = usage_rss();
    if (limited_by_cgroup && usage_of_cgroup()) {
        if (__atomic_test_and_set(&busy, __ATOMIC_ACQUIRE)) return 0;
        uint64_t cache = inactive_file_now();
        __atomic_clear(&busy, __ATOMIC_RELEASE);
        used = usage_of_cgroup() > cache ? usage_of_cgroup() - cache : 0;
    }
    errno = saved;
    return (unsigned)(used * 100 / fa.header->limit_bytes);
}
