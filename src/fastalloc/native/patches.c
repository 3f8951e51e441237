#define _GNU_SOURCE
#include "patches.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fastalloc.h"
#include "hooks.h"
#include "native_hooks.h"
#include "native_state.h"
#include "notice.h"
#include "records.h"

#ifdef __GLIBC__

#include <sys/auxv.h>

#include "elf_slots.h"
#include "kin.h"
#include "linker.h"
#include "protection.h"
#include "strangers.h"

struct object {
    const void *headers; /* where its program headers lie: no two objects share them at a time */
    uint32_t slots;      /* of it that hold a hook */
    uint32_t lasting;    /* of these, such as the object itself never changes */
    uint32_t refused;    /* that should, in pages that cannot be made writable */
};

/* The objects as the last walk left them, in the linker's order, which new ones are added to at the end. */
#define OBJECTS 4096
static struct object objects[OBJECTS], walked[OBJECTS];
static uint32_t object_count;
static uint64_t objects_added; /* the linker's counter then */

/* The first so many need no look: as long as none is unloaded. */
static uint32_t seen_count;
static uint64_t seen_added, seen_removed; /* the linker's counters then */
static int other_allocators; /* an object defines malloc too, beside the original's: see kin.h */

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
    uint32_t settled;     /* the first so many objects are loaded for good: see linker.h */
    uint32_t found_count;
    uint32_t survivors;   /* the first so many objects were there at the last walk */
    uint32_t cursor;      /* in `objects`: before it, none is looked for any more */
    uint32_t lost;        /* slots that held a hook at the last walk and do not now */
    struct object *object; /* this one, as it is now */
    int own;              /* it is the one that we are in */
    int kin;              /* it may be bound to an allocator that is not the program's */
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
    if (is_system(object)) return 0;
    if (holds(object, &busy)) return 1u << NATIVE_MALLOC; /* the sentinel alone: see find() */
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
    if (walk->own && strcmp(name, SENTINEL_NAME) != 0) return;
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

static int put(struct walk *walk, const struct elf_object *object, const struct found *slot, void *value)
{
    if (!elf_object_holds(object, (uintptr_t)slot->slot, PF_W)) return 0;
    int relro = (uintptr_t)slot->slot - object->relro_start < object->relro_end - object->relro_start;
    if (page_writer_put(&walk->writer, slot->slot, value, relro)) return 1;
    if (walk->object) walk->object->refused++;
    return 0;
}

static void count_hooked(struct walk *walk, const struct found *slot)
{
    walk->object->slots++;
    if (slot->kind != ELF_SLOT_DATA) walk->object->lasting++;
    if (walk->own) sentinel_set(slot->slot, native_hooks[slot->hook].hook);
}

/* Slots of this object that held a hook at the last walk. 0 if it may be another, loaded to the same place:
 * what was loaded since is at the end. */
static uint32_t held_before(struct walk *walk)
{
    if (walk->position > walk->survivors) return 0;
    while (walk->cursor < object_count)
        if (objects[walk->cursor++].headers == walk->object->headers) return objects[walk->cursor - 1].lasting;
    return 0;
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
    uint32_t before = held_before(walk), still = 0;
    for (uint32_t i = 0; i < walk->found_count; i++) {
        const struct native_hook *hook = &native_hooks[found[i].hook];
        enum slot_state now = slot_state(object, &found[i]);
        if (!(families & 1u << hook->family)) continue;
        if (now == SLOT_HOOKED) {
            still += found[i].kind != ELF_SLOT_DATA;
            count_hooked(walk, &found[i]);
        /* What one would be bound to is certain where no other allocator is near. */
        } else if (now == SLOT_ORIGINAL || (now == SLOT_UNBOUND && !walk->kin)) {
            if (put(walk, object, &found[i], hook->hook)) count_hooked(walk, &found[i]);
        }
    }
    if (still < before) walk->lost += before - still;
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
    if (!walk->remove && walk->position >= walk->settled) return 1;
    uint32_t position = walk->position++;
    if (!walk->remove && position < OBJECTS) {
        walk->object = &walked[position];
        if (position < seen_count && objects[position].headers == info->dlpi_phdr) {
            *walk->object = objects[position];
            return 0;
        }
        *walk->object = (struct object){.headers = info->dlpi_phdr};
    } else if (!walk->remove) {
        return 0; /* more than ever were seen */
    }
    if (!elf_object_read(info, &object)) return 0;
    unsigned families = families_of(&object, info);
    if (!families && !walk->remove) return 0;
    walk->found_count = 0;
    walk->own = holds(&object, &busy);
    walk->kin = other_allocators && kin_has(&object, info->dlpi_name);
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

static int brings_allocator(const struct elf_object *object)
{
    uintptr_t address;
    return !is_system(object) && !holds(object, (const void *)native_original.malloc) &&
           elf_object_defines(object, "malloc", &address);
}

static int look_for_news(struct dl_phdr_info *info, size_t size, void *data)
{
    struct walk *walk = data;
    struct elf_object object;
    (void)size;
    walk->added = info->dlpi_adds;
    walk->removed = info->dlpi_subs;
    if (info->dlpi_adds == seen_added && info->dlpi_subs == seen_removed) return 1; /* nothing new */
    if (info->dlpi_subs != seen_removed) forget_objects();
    seen_removed = info->dlpi_subs;
    uint32_t position = walk->position++;
    if (position < seen_count || !elf_object_read(info, &object)) return 0;
    if (brings_allocator(&object)) other_allocators = 1;
    return 0;
}

static void restore_all(void)
{
    struct walk walk = {.remove = 1};
    sentinel_set(NULL, NULL);
    page_writer_begin(&walk.writer, 1);
    dl_iterate_phdr(visit, &walk);
    page_writer_end(&walk.writer);
    forget_objects();
    object_count = 0;
}

static void give_up(const char *reason)
{
    restore_all();
    native_state_off(reason);
    native_state_forget_samples(FA_NATIVE_OFF);
}

static void tool_came(void *function)
{
    char file[100], reason[sizeof native_state.why_off];
    stranger_file(function, file, sizeof file);
    snprintf(reason, sizeof reason, "another tool has patched malloc or mmap (%s)", file);
    if (object_count) fa_lose(FA_LOSS_DISPLACED);
    give_up(reason);
}

/* They are in place again, but frees went unseen meanwhile. */
static void tool_was_here(void)
{
    native_state.gaps++;
    fa_lose(FA_LOSS_DISPLACED);
    native_state_forget_samples(FA_NATIVE_GAP);
}

static void keep(const struct walk *walk, uint64_t settled)
{
    native_state.slots = native_state.refused = 0;
    object_count = seen_count = walk->position < OBJECTS ? walk->position : OBJECTS;
    for (uint32_t i = 0; i < object_count; i++) {
        objects[i] = walked[i];
        native_state.slots += objects[i].slots;
        native_state.refused += objects[i].refused;
    }
    objects_added = seen_added = settled;
}

/* How many are left if the last `added` of them are not counted. */
static uint32_t without(uint32_t all, uint64_t added)
{
    return added < all ? all - (uint32_t)added : 0;
}

/* Patches all objects that were not seen yet and are settled. `wait`: for those that are not. */
static void walk_objects(int first, int wait)
{
    uint32_t lost = 0;
    notice_walk();
    for (int attempt = 0; attempt < 16; attempt++) {
        struct walk walk = {.added = 0};
        dl_iterate_phdr(look_for_news, &walk);
        if (walk.added == seen_added) break;
        uint64_t settled = linker_settled(walk.added, wait);
        if (settled < walk.added) notice_loading();
        if (settled == seen_added) break;
        if (other_allocators) kin_find(brings_allocator);
        if (object_count) walk.survivors = without(walk.position, walk.added - objects_added);
        walk.settled = without(walk.position, walk.added - settled);
        walk.position = 0;
        page_writer_begin(&walk.writer, first || !seen_count);
        dl_iterate_phdr(visit, &walk);
        page_writer_end(&walk.writer);
        if (walk.tool) {
            tool_came(walk.tool);
            return;
        }
        lost += walk.lost;
        if (walk.open) strangers_look_up();
        if (walk.stale) notice_loading(); /* it may be so each time */
        if (walk.stale || walk.open) continue;
        keep(&walk, settled);
        break;
    }
    if (lost) tool_was_here();
    if (native_state.refused && !native_state.slots) give_up("the pages of libraries cannot be made writable");
}

/* Law 5. */
static int can_walk(void)
{
    int free = linker_is_free();
    if (native_state.stuck == free) {
        native_state.stuck = !free;
        native_state_publish();
    }
    if (!free) end();
    return free;
}

static int begin(void)
{
    int free = 0;
    return hooks_gil_held() && __atomic_compare_exchange_n(&busy, &free, 1, 0, __ATOMIC_ACQUIRE, __ATOMIC_RELAXED) &&
           can_walk();
}

void patches_install(void)
{
    if (native_state.on || !begin()) return;
    native_state_begin();
    object_count = 0;
    forget_objects();
    if (native_originals_find()) {
        walk_objects(1, 0);
        if (native_state.on) native_state_event(FA_NATIVE_ON);
    } else {
        give_up("the C library's allocator is not to be found by name");
    }
    native_state_publish();
    end();
}

void patches_remove(void)
{
    if (!native_state.on || !begin()) return;
    native_state_off("");
    restore_all();
    end();
}

static void look(int at_all, int wait)
{
    if (!native_state.on || fa_barred() || !begin()) return;
    int saved = errno;
    const struct native_state before = native_state;
    if (at_all || sentinel_is_taken()) {
        forget_objects();
        at_all = 1;
    }
    if (native_state.on) walk_objects(at_all, wait);
    if (memcmp(&before, &native_state, sizeof before) != 0) native_state_publish(); /* which takes our lock */
    end();
    errno = saved;
}

void patches_follow(void)
{
    look(0, 1);
    notice_at_sample(); /* a thread without the GIL may not look */
}

void fa_native_look(void)
{
    look(1, 0);
}

void patches_child(void)
{
    busy = 0;
    if (native_state.on) linker_child();
}

#else

void patches_install(void)
{
    native_state_off("native memory is recorded on glibc only");
    native_state_publish();
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
