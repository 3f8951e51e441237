/* The hooks of mmap and its kin.
 *
 * What counts as memory: anonymous mappings, and files that lie in memory (tmpfs, memfd), with their
 * size in whole pages. Not: files on disk, which the kernel can drop; space that is only reserved
 * (PROT_NONE, MAP_NORESERVE), which allocators map by the gigabyte.
 */
#define _GNU_SOURCE
#include "native_hooks.h"

#include <errno.h>
#include <stdarg.h>
#include <sys/mman.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "mappings.h"
#include "sample.h"

#define TMPFS 0x01021994
#define HUGETLBFS 0x958458f6

/* A mapping of unknown kind this many intervals long, had it counted, would nearly surely be a sample. */
#define SURE 8

static uint64_t whole_pages(size_t bytes)
{
    static uint64_t page;
    if (!page) page = (uint64_t)sysconf(_SC_PAGESIZE);
    return (bytes + page - 1) & ~(page - 1);
}

static int lies_in_memory(int file)
{
    struct statfs system;
    int saved = errno;
    int known = fstatfs(file, &system) == 0;
    errno = saved;
    return known && ((uint32_t)system.f_type == TMPFS || (uint32_t)system.f_type == HUGETLBFS);
}

static int is_memory(int protection, int flags, int file)
{
    if (protection == PROT_NONE || (flags & MAP_NORESERVE)) return 0;
    return (flags & MAP_ANONYMOUS) || lies_in_memory(file);
}

void *native_mmap(void *address, size_t bytes, int protection, int flags, int file, off_t offset)
{
    struct mapping_cut cut = {.count = 0};
    uint64_t weight = 0, n = whole_pages(bytes);
    int counts = is_memory(protection, flags, file) && !fa_tls.nested;
    if (flags & MAP_FIXED) mappings_cut(&cut, (uintptr_t)address, n);
    if (counts && count_allocation(n)) weight = sample_due(n);
    void *mapped = native_original.mmap(address, bytes, protection, flags, file, offset);
    mappings_cut_done(&cut, mapped != MAP_FAILED);
    if (!counts) return mapped;
    if (mapped != MAP_FAILED) {
        if (weight) sample_take(mapped, n, weight, FA_DOMAIN_MMAP);
    } else if (errno == ENOMEM) {
        sample_failed(n, FA_DOMAIN_MMAP);
    } else {
        sample_uncount(n);
    }
    return mapped;
}

int native_munmap(void *address, size_t bytes)
{
    struct mapping_cut cut;
    mappings_cut(&cut, (uintptr_t)address, whole_pages(bytes));
    int failed = native_original.munmap(address, bytes);
    mappings_cut_done(&cut, !failed);
    return failed;
}

/* Growing counts as a new allocation of the whole, as realloc does. Shrinking counts as unmapping the end. */
void *native_mremap(void *address, size_t old_bytes, size_t bytes, int flags, ...)
{
    struct mapping_cut cut, there = {.count = 0};
    uint64_t weight = 0, old = whole_pages(old_bytes), n = whole_pages(bytes);
    void *target = NULL;
    if (flags & MREMAP_FIXED) {
        va_list more;
        va_start(more, flags);
        target = va_arg(more, void *);
        va_end(more);
        mappings_cut(&there, (uintptr_t)target, n);
    }
    int shrinks = n <= old && !(flags & MREMAP_FIXED);
    mappings_cut(&cut, (uintptr_t)address + (shrinks ? n : 0), old - (shrinks ? n : 0));
    int counts = !shrinks && old && !fa_tls.nested && (cut.count || old < SURE * fa.interval);
    if (counts && count_allocation(n)) weight = sample_due_again(n);
    void *moved = native_original.mremap(address, old_bytes, bytes, flags, target);
    mappings_cut_done(&cut, moved != MAP_FAILED);
    mappings_cut_done(&there, moved != MAP_FAILED);
    if (!counts) return moved;
    if (moved == MAP_FAILED) sample_uncount(n);
    else if (weight) sample_take(moved, n, weight, FA_DOMAIN_MMAP);
    return moved;
}
