#define _GNU_SOURCE
#include "patches.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fastalloc.h"
#include "hooks.h"
#include "live.h"
#include "mappings.h"
#include "native_hooks.h"
#include "records.h"

static struct {
    int on;
    uint32_t slots; /* that hold a hook */
    char reason[200]; /* why not, or why no longer */
} state;

int fa_native_is_on(void)
{
    return state.on;
}

uint32_t fa_native_slots(void)
{
    return state.on ? state.slots : 0;
}

const char *fa_native_reason(void)
{
    return state.reason;
}

#ifdef __GLIBC__

#include <dlfcn.h>
#include <sys/auxv.h>
#include <unistd.h>

#include "elf_slots.h"
#include "linker.h"
#include "protection.h"
#include "strangers.h"

/* The objects gone through already, in the linker's order, which new ones are added to at the end. Valid
 * while none is unloaded. */
#define OBJECTS 4096
static const void *seen[OBJECTS];
static uint32_t seen_count;
static uint64_t seen_added, seen_removed; /* the linker's counters then */
static uint32_t other_allocators; /* objects that define malloc too, beside the original's */


#define SLOTS_PER_OBJECT 2048
struct found {
    void **slot;
    uint8_t hook; /* index into native_hooks */
    uint8_t kind; /* enum elf_slot_kind */
};
static struct found found[SLOTS_PER_OBJECT];

static int busy; /* in a walk: a thread that finds it set goes on without */

struct walk {
    uint64_t added, removed; /* the linker's counters that the walk is for */
    uint32_t position;
    uint32_t found_count;
    uint32_t slots;       /* hooked now */
    int stale;            /* objects came or went since */
    int open;             /* strangers to look up first */
    void *tool;           /* a slot that another tool has patched */
    int remove;
    struct page_writer writer;
};

/* --- which objects ---------------------------------------------------------------------------- */

static int holds(const struct elf_object *object, const void *address)
{
    return elf_object_holds(object, (uintptr_t)address, 0);
}

static int is_system(const struct elf_object *object)
{
    return object->base == getauxval(AT_BASE) || holds(object, (const void *)dl_iterate_phdr) ||
           holds(object, (const void *)getauxval(AT_SYSINFO_EHDR));
}

/* Families that are patched in an object, as bits. */
static unsigned families_of(const struct elf_object *object, const struct dl_phdr_info *info)
{
    unsigned loader = 1u << NATIVE_LOADER;
    if (holds(object, &state) || is_system(object)) return 0;
    uintptr_t address;
    if (!info->dlpi_name[0] || elf_object_defines(object, "PyMem_RawMalloc", &address)) return loader;
    if (elf_object_defines(object, "malloc", &address) || elf_object_defines(object, "free", &address)) return 0;
    return loader | 1u << NATIVE_MALLOC | 1u << NATIVE_MMAP;
}

/* --- which slots ------------------------------------------------------------------------------ */

static void find(const char *name, void **slot, enum elf_slot_kind kind, void *data)
{
    struct walk *walk = data;
    if (!strchr("mcrfpavd", name[0]) || walk->found_count >= SLOTS_PER_OBJECT) return;
    for (int i = 0; i < NATIVE_HOOKS; i++) {
        if (strcmp(name, native_hooks[i].name) != 0 || !*native_hooks[i].original) continue;
        found[walk->found_count++] = (struct found){slot, (uint8_t)i, (uint8_t)kind};
        return;
    }
}

/* What the linker puts into a slot. The addresses differ where the main program has an entry of its own for
 * a function of a library, which is then that function's address for all who ask. */
static void *bound(const struct found *slot)
{
    return slot->kind == ELF_SLOT_CALL ? *native_hooks[slot->hook].original : native_addresses[slot->hook];
}

enum slot_state { SLOT_ORIGINAL, SLOT_HOOKED, SLOT_UNBOUND, SLOT_STRANGE, SLOT_OTHERS };

static enum slot_state slot_state(const struct elf_object *object, const struct found *slot)
{
    const struct native_hook *hook = &native_hooks[slot->hook];
    void *value = __atomic_load_n(slot->slot, __ATOMIC_RELAXED);
    if (value == hook->hook) return SLOT_HOOKED;
    if (value == bound(slot)) return SLOT_ORIGINAL;
    if (!value || slot->kind == ELF_SLOT_DATA) return SLOT_OTHERS;
    if (slot->kind == ELF_SLOT_CALL && elf_object_holds(object, (uintptr_t)value, PF_X)) return SLOT_UNBOUND;
    return SLOT_STRANGE;
}

/* --- patching --------------------------------------------------------------------------------- */

static void put(struct walk *walk, const struct elf_object *object, const struct found *slot, void *value)
{
    if (!elf_object_holds(object, (uintptr_t)slot->slot, PF_W)) return;
    int relro = (uintptr_t)slot->slot - object->relro_start < object->relro_end - object->relro_start;
    if (page_writer_put(&walk->writer, slot->slot, value, relro) && !walk->remove) walk->slots++;
}

static void patch_object(struct walk *walk, const struct elf_object *object, unsigned families)
{
    for (uint32_t i = 0; i < walk->found_count; i++) {
        const struct native_hook *hook = &native_hooks[found[i].hook];
        if (!(families & 1u << hook->family) || slot_state(object, &found[i]) != SLOT_STRANGE) continue;
        switch (stranger_verdict(*found[i].slot, hook->name)) {
        case VERDICT_OPEN: walk->open = 1; return;
        case VERDICT_TOOL: walk->tool = *found[i].slot; return;
        case VERDICT_ALLOCATOR:
            if (hook->family == NATIVE_MALLOC) families &= ~(1u << NATIVE_MALLOC);
        }
    }
    for (uint32_t i = 0; i < walk->found_count; i++) {
        const struct native_hook *hook = &native_hooks[found[i].hook];
        enum slot_state now = slot_state(object, &found[i]);
        if (!(families & 1u << hook->family)) continue;
        if (now == SLOT_HOOKED) walk->slots++;
        /* What it would be bound to is certain only where there is one allocator. */
        else if (now == SLOT_ORIGINAL || (now == SLOT_UNBOUND && !other_allocators)) put(walk, object, &found[i], hook->hook);
    }
}

static void restore_object(struct walk *walk, const struct elf_object *object)
{
    for (uint32_t i = 0; i < walk->found_count; i++)
        if (slot_state(object, &found[i]) == SLOT_HOOKED) put(walk, object, &found[i], bound(&found[i]));
}

static int visit(struct dl_phdr_info *info, size_t size, void *data)
{
    struct walk *walk = data;
    struct elf_object object;
    (void)size;
    if (!walk->remove && (info->dlpi_adds != walk->added || info->dlpi_subs != walk->removed)) {
        walk->stale = 1;
        return 1;
    }
    uint32_t position = walk->position++;
    if (!walk->remove && position < seen_count && seen[position] == info->dlpi_phdr) return 0;
    if (!elf_object_read(info, &object)) return 0;
    unsigned families = families_of(&object, info);
    if (!families && !walk->remove) return 0;
    walk->found_count = 0;
    elf_object_slots(&object, find, walk);
    if (walk->remove) restore_object(walk, &object);
    else patch_object(walk, &object, families);
    page_writer_close(&walk->writer);
    return 0;
}

static void end(void)
{
    __atomic_store_n(&busy, 0, __ATOMIC_RELEASE);
}

static void forget_objects(void)
{
    seen_count = 0;
    strangers_forget();
    seen_added = seen_removed = 0;
    other_allocators = 0;
}

/* --- walks ------------------------------------------------------------------------------------ */

static int look_for_news(struct dl_phdr_info *info, size_t size, void *data)
{
    struct walk *walk = data;
    struct elf_object object;
    uintptr_t address;
    (void)size;
    walk->added = info->dlpi_adds;
    walk->removed = info->dlpi_subs;
    if (info->dlpi_adds == seen_added && info->dlpi_subs == seen_removed) return 1; /* nothing new */
    if (info->dlpi_subs != seen_removed) forget_objects();
    seen_removed = info->dlpi_subs;
    uint32_t position = walk->position++;
    if (position < seen_count || !elf_object_read(info, &object) || is_system(&object)) return 0;
    if (!holds(&object, (const void *)native_original.malloc) && elf_object_defines(&object, "malloc", &address))
        other_allocators = 1;
    return 0;
}

static int note_objects(struct dl_phdr_info *info, size_t size, void *data)
{
    struct walk *walk = data;
    (void)size;
    if (info->dlpi_adds != walk->added || info->dlpi_subs != walk->removed) {
        walk->stale = 1;
        return 1;
    }
    if (walk->position < OBJECTS) seen[walk->position++] = info->dlpi_phdr;
    return 0;
}

static void give_up(const char *reason);

/* Patches all objects that were not seen yet. */
static void walk_objects(int first)
{
    for (int attempt = 0; attempt < 16; attempt++) {
        struct walk walk = {.added = 0};
        dl_iterate_phdr(look_for_news, &walk);
        if (walk.added == seen_added) return;
        linker_wait_for_loading();
        walk.position = 0;
        page_writer_begin(&walk.writer, first || !seen_count);
        dl_iterate_phdr(visit, &walk);
        page_writer_end(&walk.writer);
        if (walk.tool) {
            Dl_info info;
            const char *file = dladdr(walk.tool, &info) && info.dli_fname ? strrchr(info.dli_fname, '/') : NULL;
            char reason[sizeof state.reason];
            snprintf(reason, sizeof reason, "another tool has patched malloc or mmap (%s)", file ? file + 1 : "unknown");
            give_up(reason);
            return;
        }
        if (walk.open) strangers_look_up();
        if (walk.stale || walk.open) continue;
        walk.position = 0;
        dl_iterate_phdr(note_objects, &walk);
        if (walk.stale) continue;
        state.slots = seen_count ? state.slots + walk.slots : walk.slots;
        seen_count = walk.position;
        seen_added = walk.added;
        return;
    }
}

static void restore_all(void)
{
    struct walk walk = {.remove = 1};
    page_writer_begin(&walk.writer, 1);
    dl_iterate_phdr(visit, &walk);
    page_writer_end(&walk.writer);
    forget_objects();
    state.slots = 0;
}

/* Their frees will not be seen any more. */
static void forget_native_samples(void)
{
    fa_lock();
    live_drop_domain(FA_DOMAIN_MALLOC);
    live_drop_domain(FA_DOMAIN_MMAP);
    mappings_reset();
    event_write(FA_EVENT_NATIVE, 0, 0, 0);
    fa_unlock();
}

static void give_up(const char *reason)
{
    restore_all();
    forget_native_samples();
    state.on = 0;
    snprintf(state.reason, sizeof state.reason, "%s", reason);
}

/* Law 5. */
static int can_walk(void)
{
    if (linker_is_free()) return 1;
    snprintf(state.reason, sizeof state.reason,
             "forked while another thread was loading a library: what is loaded from here on is not seen");
    end();
    return 0;
}

static int begin(void)
{
    int free = 0;
    return hooks_gil_held() && __atomic_compare_exchange_n(&busy, &free, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED) &&
           can_walk();
}

void patches_install(void)
{
    if (state.on || !begin()) return;
    state.reason[0] = 0;
    if (!native_originals_find()) {
        snprintf(state.reason, sizeof state.reason, "the C library's allocator is not to be found by name");
    } else {
        state.on = 1;
        forget_objects();
        walk_objects(1);
    }
    if (state.on) {
        fa_lock();
        event_write(FA_EVENT_NATIVE, 1, state.slots, 0);
        fa_unlock();
    }
    end();
}

void patches_remove(void)
{
    if (!state.on || !begin()) return;
    state.on = 0;
    restore_all();
    end();
}

void patches_follow(void)
{
    if (!state.on || !begin()) return;
    int saved = errno;
    if (state.on) walk_objects(0);
    errno = saved;
    end();
}

void fa_native_look(void)
{
    if (!state.on || !begin()) return;
    forget_objects();
    if (state.on) walk_objects(1);
    end();
}

void patches_child(void)
{
    busy = 0;
    if (state.on) linker_child();
}

#else

void patches_install(void)
{
    snprintf(state.reason, sizeof state.reason, "native memory is recorded on glibc only");
}

void patches_remove(void)
{
}

void patches_follow(void)
{
}

void fa_native_look(void)
{
}

void patches_child(void)
{
}

#endif
