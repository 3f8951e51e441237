#define _GNU_SOURCE
#include "resident.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "memory_file.h"
#include "raw_memory.h"
#include "recorder.h"

#define TMPFS_MAGIC 0x01021994
#define PAGE_PRESENT (1ull << 63) /* of /proc/self/pagemap */

/* --- the kernel's counts --------------------------------------------------------------------- */

/* "RssAnon:	    1234 kB" */
static uint64_t kib_of(const char *text, const char *name)
{
    const char *at = strstr(text, name);
    if (!at) return FA_UNKNOWN;
    uint64_t number = 0;
    for (at += strlen(name); *at == ' ' || *at == '\t'; at++) continue;
    while (*at >= '0' && *at <= '9') number = number * 10 + (uint64_t)(*at++ - '0');
    return number * 1024;
}

static void read_kernel(struct fa_resident *found)
{
    char text[8192];
    int fd = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? 0 : read(fd, text, sizeof text - 1);
    if (fd >= 0) close(fd);
    text[length > 0 ? length : 0] = 0;
    found->anon_bytes = kib_of(text, "\nRssAnon:");
    found->file_bytes = kib_of(text, "\nRssFile:");
    found->shmem_bytes = kib_of(text, "\nRssShmem:");
}

/* --- the C library's malloc ------------------------------------------------------------------- */

#ifdef __GLIBC__
/* As struct mallinfo2, which glibc has from 2.33 on. */
struct counts {
    size_t arena, ordblks, smblks, hblks, hblkhd, usmblks, fsmblks, uordblks, fordblks, keepcost;
};

static int same_library(void *one, void *other)
{
    Dl_info of_one, of_other;
    return one && other && dladdr(one, &of_one) && dladdr(other, &of_other) && of_one.dli_fbase == of_other.dli_fbase;
}

/* Is malloc the C library's own, or another one's (jemalloc, tcmalloc) that was loaded before? In a program that
 * is not position-independent its address is the program's own stub, whoever serves it: then it is tried out. */
static int is_served_by(struct counts (*ask)(void))
{
    void *malloc_address = dlsym(RTLD_DEFAULT, "malloc"), *ask_address = *(void **)(void *)&ask;
    if (same_library(ask_address, malloc_address)) return 1;
    for (int i = 0; i < 3; i++) { /* other threads may free as much meanwhile */
        size_t size = 40000, before = ask().uordblks; /* not from a thread's cache, and not a mapping of its own */
        void *volatile block = malloc(size);
        size_t after = ask().uordblks;
        free(block);
        if (block && after >= before + size) return 1;
    }
    return 0;
}

static void read_malloc(struct fa_resident *found)
{
    void *address = dlsym(RTLD_DEFAULT, "mallinfo2");
    struct counts (*ask)(void);
    *(void **)(void *)&ask = address;
    if (!address || !is_served_by(ask)) return;
    struct counts now = ask();
    found->malloc_live_bytes = now.uordblks + now.hblkhd;
    found->malloc_free_bytes = now.fordblks;
    found->malloc_free_count = now.ordblks;
}
#else
static void read_malloc(struct fa_resident *found)
{
    (void)found; /* musl does not tell */
}
#endif

/* --- our own ---------------------------------------------------------------------------------- */

static uint64_t resident_of(int pagemap, uint64_t from, uint64_t bytes)
{
    uint64_t entries[256], page = (uint64_t)sysconf(_SC_PAGESIZE), pages = 0;
    for (uint64_t at = from / page, end = (from + bytes + page - 1) / page; at < end;) {
        size_t wanted = end - at < 256 ? (size_t)(end - at) : 256;
        ssize_t got = pread(pagemap, entries, wanted * sizeof *entries, (off_t)(at * sizeof *entries));
        if (got <= 0) break; /* nothing is mapped there any more */
        size_t count = (size_t)got / sizeof *entries;
        if (!count) break;
        for (size_t i = 0; i < count; i++) pages += (entries[i] & PAGE_PRESENT) != 0;
        at += count;
    }
    return pages * page;
}

static void read_own(struct fa_resident *found)
{
    struct statfs of;
    int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
    if (pagemap < 0 || !fa.header) {
        if (pagemap >= 0) close(pagemap);
        return;
    }
    uint64_t entry;
    if (pread(pagemap, &entry, sizeof entry, (off_t)((uintptr_t)fa.header / (uint64_t)sysconf(_SC_PAGESIZE) * sizeof entry)) < 0) {
        close(pagemap); /* a sandbox that lets it be opened, but not read */
        return;
    }
    found->own_anon_bytes = found->own_file_bytes = found->own_shmem_bytes = 0;
    struct raw_memory map;
    for (unsigned i = 0; raw_memory_at(i, &map); i++)
        found->own_anon_bytes += resident_of(pagemap, (uint64_t)(uintptr_t)map.memory, map.bytes);
    uint64_t recording = resident_of(pagemap, (uint64_t)(uintptr_t)fa.header, fa.mapped_bytes);
    const char *path = fa_recording_path();
    if (!path[0] && memory_file_is_shown()) found->own_shmem_bytes = recording;
    else if (!path[0]) found->own_anon_bytes += recording;
    else if (statfs(path, &of) == 0 && of.f_type == TMPFS_MAGIC) found->own_shmem_bytes = recording;
    else found->own_file_bytes = recording;
    close(pagemap);
}

/* --- the door --------------------------------------------------------------------------------- */

void fa_look_begin(struct fa_look *look)
{
    struct fa_resident *found = &look->found;
    memset(found, 0xff, sizeof *found); /* all FA_UNKNOWN */
    read_malloc(found);
    read_own(found);
    read_kernel(found); /* the last: what the others touch is in it */
    found->time_ns = fa.header ? fa_now_ns() : 0;
    arenas_open(look);
}

void fa_look_end(struct fa_look *look)
{
    arenas_close(look);
    if (!fa.header) return;
    fa_lock();
    fa.header->resident = look->found;
    fa_unlock();
}
