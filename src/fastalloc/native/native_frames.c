#define _GNU_SOURCE
#include "native_frames.h"

#include <string.h>

#include "fastalloc.h"
#include "recorder.h"
#include "unwind.h"

#if defined(__GLIBC__) && defined(UNWIND_REGISTERS)

#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <pthread.h>
#include <unistd.h>

/* glibc 2.35's struct dl_find_object, for builds against older headers. */
struct found_object {
    unsigned long long flags;
    void *start, *end;
    struct link_map *map;
    void *index;
    unsigned long long reserved[7];
};

static int (*find_object)(void *address, struct found_object *found);
static const struct link_map *python, *own;
static char program[1024]; /* the linker has no name for it */

static int find(uintptr_t address, struct found_object *found)
{
    return find_object((void *)address, found) == 0 && found->map && found->start;
}

static const char *why_not;

static void prepare(void)
{
    struct found_object found;
    void *raw_malloc = dlsym(RTLD_DEFAULT, "PyMem_RawMalloc");
    *(void **)(void *)&find_object = dlsym(RTLD_DEFAULT, "_dl_find_object");
    why_not = !find_object                                       ? "native frames need glibc 2.35 or later"
              : !find((uintptr_t)&native_frames_prepare, &found) ? "native frames: the core does not find itself"
                                                                 : NULL;
    if (why_not) return;
    own = found.map;
    python = raw_malloc && find((uintptr_t)raw_malloc, &found) ? found.map : NULL;
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    program[length > 0 ? length : 0] = 0;
}

const char *native_frames_prepare(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, prepare);
    return why_not;
}

/* --- which module --------------------------------------------------------------------------------- */

struct headers {
    const ElfW(Phdr) *segments;
    size_t count;
    const unsigned char *id; /* the build id; NULL: none */
    size_t id_bytes;
};

static int readable(const struct headers *headers, uintptr_t offset, size_t bytes)
{
    for (size_t i = 0; i < headers->count; i++) {
        const ElfW(Phdr) *segment = &headers->segments[i];
        if (segment->p_type == PT_LOAD && segment->p_flags & PF_R && offset >= segment->p_vaddr &&
            offset - segment->p_vaddr <= segment->p_filesz && bytes <= segment->p_filesz - (offset - segment->p_vaddr))
            return 1;
    }
    return 0;
}

static void find_build_id(struct headers *headers, uintptr_t base, const ElfW(Phdr) *notes)
{
    if (!readable(headers, notes->p_vaddr, notes->p_filesz)) return;
    const unsigned char *at = (const unsigned char *)(base + notes->p_vaddr), *end = at + notes->p_filesz;
    while ((size_t)(end - at) >= sizeof(ElfW(Nhdr))) {
        ElfW(Nhdr) note;
        memcpy(&note, at, sizeof note);
        at += sizeof note;
        size_t name = ((size_t)note.n_namesz + 3) & ~(size_t)3, text = ((size_t)note.n_descsz + 3) & ~(size_t)3;
        if (name + text > (size_t)(end - at)) return;
        if (note.n_type == NT_GNU_BUILD_ID && note.n_namesz == 4 && memcmp(at, "GNU", 4) == 0) {
            headers->id = at + name;
            headers->id_bytes = note.n_descsz < 64 ? note.n_descsz : 64;
            return;
        }
        at += name + text;
    }
}

/* The file's first page, where it holds the headers as linkers lay it out; else nothing is read. */
static void read_headers(const struct found_object *found, struct headers *headers)
{
    const unsigned char *start = found->start;
    size_t size = (size_t)((const unsigned char *)found->end - start);
    memset(headers, 0, sizeof *headers);
    if (size < FA_PAGE_BYTES || memcmp(start, ELFMAG, SELFMAG) != 0) return;
    const ElfW(Ehdr) *elf = (const void *)start;
    if (elf->e_phentsize != sizeof(ElfW(Phdr)) ||
        elf->e_phoff > FA_PAGE_BYTES - (size_t)elf->e_phnum * sizeof(ElfW(Phdr)) || elf->e_phnum > 64)
        return;
    headers->segments = (const void *)(start + elf->e_phoff);
    headers->count = elf->e_phnum;
    for (size_t i = 0; i < headers->count && !headers->id; i++)
        if (headers->segments[i].p_type == PT_NOTE) find_build_id(headers, found->map->l_addr, &headers->segments[i]);
}

static uint64_t hash_bytes(uint64_t hash, const void *from, size_t bytes)
{
    for (const unsigned char *at = from; bytes--; at++) hash = (hash ^ *at) * 0x100000001B3ull;
    return hash;
}

#define HASH_START 0xCBF29CE484222325ull

static uint64_t headers_hash(const struct headers *headers)
{
    return hash_bytes(HASH_START, headers->segments, headers->count * sizeof *headers->segments);
}

static uint64_t identity_of(const struct found_object *found)
{
    struct headers headers;
    read_headers(found, &headers);
    uint64_t hash = headers.id ? hash_bytes(HASH_START, headers.id, headers.id_bytes) : headers_hash(&headers);
    const char *path = found->map->l_name;
    return hash_bytes(hash, path, path ? strlen(path) : 0);
}

/* --- the walk --------------------------------------------------------------------------------------- */

static void mix(uint64_t *hash, uint64_t value)
{
    *hash = (*hash ^ value) * 0x9FB21C651E98DF25ull;
    *hash ^= *hash >> 29;
}

NOINLINE int native_frames_walk(struct raw_frame *frames, int capacity, uintptr_t limit, uint64_t *hash, int *cut)
{
    struct unwind unwind;
    struct found_object found = {.start = NULL};
    uint64_t identity = 0;
    int count = 0, reached = 0, steps = 0;
    memset(&unwind, 0, sizeof unwind);
    UNWIND_HERE(&unwind);
    *cut = 0;
    if (!find_object) return 0;
    /* Another stack (a context's, a signal's) that lies above Python's: it ends by itself. Of 1, an unknown limit, that is not
     * known, and nothing is kept. */
    if (limit > 1 && unwind.registers[UNWIND_SP] > limit) limit = 0;
    for (; steps < FA_MAX_NATIVE_FRAMES + 32; steps++) {
        uintptr_t ip = unwind.registers[UNWIND_IP] - (uintptr_t)(unwind.at_call != 0);
        if (!found.start || ip < (uintptr_t)found.start || ip >= (uintptr_t)found.end) {
            if (!find(ip, &found)) break;
            identity = 0;
        }
        struct unwind_module module = {(uintptr_t)found.start, (uintptr_t)found.end, found.index};
        /* This function's frame must be stepped out of to know where it ends. */
        struct raw_frame frame = {found.map, 0, (int32_t)(uint32_t)(ip - found.map->l_addr), FRAME_NATIVE};
        int ours = found.map == own, going = unwind_step(&unwind, &module);
        if (limit && going && unwind.cfa > limit) {
            reached = 1;
            break;
        }
        if (!ours) {
            if (count == capacity) {
                *cut = 1;
                break;
            }
            if (!identity) identity = identity_of(&found) | 1;
            frame.identity = identity;
            frames[count++] = frame;
        }
        if (!going) break;
    }
    /* CPython's way from its eval loop to the library says nothing that the Python line does not. */
    while (reached && count && frames[count - 1].code == python) count--;
    for (int i = 0; i < count; i++) mix(hash, frames[i].identity + (uint64_t)(uint32_t)frames[i].lasti * 0xD6E8FEB86659FD93ull);
    return count;
}

static void put_hex(struct code_names *names, const unsigned char *from, size_t bytes)
{
    for (size_t i = 0; i < bytes; i++) {
        names->function[names->function_bytes++] = "0123456789abcdef"[from[i] >> 4];
        names->function[names->function_bytes++] = "0123456789abcdef"[from[i] & 15];
    }
}

void native_frame_names(const struct raw_frame *frame, struct code_names *names)
{
    const struct link_map *map = frame->code;
    const char *path = map->l_name && map->l_name[0] ? map->l_name : program;
    struct found_object found;
    struct headers headers;
    names->function_bytes = names->file_bytes = 0;
    names->first_line = FA_MODULE_LINE;
    names->line_table_hash = 0;
    if (path[0] != '/' && strchr(path, '/')) { /* loaded by a relative path: as it stands now */
        if (!getcwd(names->file, sizeof names->file - 1)) names->file[0] = 0;
        names->file_bytes = strlen(names->file);
        names->file[names->file_bytes++] = '/';
    }
    size_t length = strlen(path), room = sizeof names->file - names->file_bytes;
    memcpy(names->file + names->file_bytes, path, length < room ? length : room);
    names->file_bytes += length < room ? length : room;
    if (!find((uintptr_t)map->l_ld, &found)) return;
    read_headers(&found, &headers);
    if (headers.id) {
        put_hex(names, headers.id, headers.id_bytes);
    } else if (headers.count) {
        uint64_t hash = __builtin_bswap64(headers_hash(&headers)); /* to be read from the left */
        memcpy(names->function, "headers-", 8);
        names->function_bytes = 8;
        put_hex(names, (const unsigned char *)&hash, sizeof hash);
    }
}

#else

const char *native_frames_prepare(void)
{
    return "native frames are recorded with glibc on x86_64 and aarch64 only";
}

int native_frames_walk(struct raw_frame *frames, int capacity, uintptr_t limit, uint64_t *hash, int *cut)
{
    (void)frames, (void)capacity, (void)limit, (void)hash;
    *cut = 0;
    return 0;
}

void native_frame_names(const struct raw_frame *frame, struct code_names *names)
{
    (void)frame;
    names->function_bytes = names->file_bytes = 0;
    names->first_line = FA_MODULE_LINE;
    names->line_table_hash = 0;
}

#endif
