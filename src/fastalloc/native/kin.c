#define _GNU_SOURCE
#include <features.h>

#ifdef __GLIBC__ /* elsewhere nothing is patched: see patches.h */

#include "kin.h"

#include <string.h>

#define NAMES 1024
struct names {
    uint32_t count;
    uint32_t hashes[NAMES];
};
static struct names needing, kin; /* an allocator; of it */
static int all; /* too many names: whatever is asked for is kin */

static uint32_t hash_of(const char *path)
{
    const char *slash = strrchr(path, '/');
    uint32_t hash = 2166136261u;
    for (const char *at = slash ? slash + 1 : path; *at; at++) hash = (hash ^ (unsigned char)*at) * 16777619u;
    return hash;
}

static int has(const struct names *names, uint32_t hash)
{
    for (uint32_t i = 0; i < names->count; i++)
        if (names->hashes[i] == hash) return 1;
    return 0;
}

static void add(struct names *names, uint32_t hash)
{
    if (has(names, hash)) return;
    if (names->count < NAMES) names->hashes[names->count++] = hash;
    else all = 1;
}

/* What is known of an object by its names. */
struct named {
    uint32_t own[2];   /* DT_SONAME, file; the same if it has but one */
    int needs_needing; /* something that needs an allocator */
};

static void note(const char *name, int own, void *data)
{
    struct named *named = data;
    if (own) named->own[0] = hash_of(name);
    else if (has(&needing, hash_of(name))) named->needs_needing = 1;
}

static struct named names_of(const struct elf_object *object, const char *file)
{
    struct named named = {.own = {hash_of(file), hash_of(file)}};
    elf_object_names(object, note, &named);
    return named;
}

static void add_needed(const char *name, int own, void *data)
{
    (void)own, (void)data;
    add(&kin, hash_of(name));
}

static int pass(struct dl_phdr_info *info, size_t size, void *data)
{
    int (*brings_allocator)(const struct elf_object *) = *(int (**)(const struct elf_object *))data;
    struct elf_object object;
    (void)size;
    if (!elf_object_read(info, &object)) return 0;
    struct named named = names_of(&object, info->dlpi_name);
    if (named.needs_needing || brings_allocator(&object)) {
        for (int i = 0; i < 2; i++) {
            add(&needing, named.own[i]);
            add(&kin, named.own[i]);
        }
    }
    if (has(&kin, named.own[0]) || has(&kin, named.own[1])) elf_object_names(&object, add_needed, NULL);
    return 0;
}

void kin_find(int (*brings_allocator)(const struct elf_object *object))
{
    uint32_t before;
    needing.count = kin.count = 0;
    all = 0;
    do {
        before = needing.count + kin.count;
        dl_iterate_phdr(pass, &brings_allocator);
    } while (needing.count + kin.count != before);
}

int kin_has(const struct elf_object *object, const char *file)
{
    struct named named = names_of(object, file);
    return all || has(&kin, named.own[0]) || has(&kin, named.own[1]);
}

#else
typedef int kin_needs_glibc;
#endif
