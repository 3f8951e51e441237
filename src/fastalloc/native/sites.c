#include "sites.h"

#include <string.h>

#include "fastalloc.h"
#include "id_index.h"
#include "native_frames.h"
#include "raw_memory.h"
#include "recorder.h"
#include "strings.h"
#include "sweep.h"

/* Code objects seen lately: a cache of pairs, since the functions' table is the truth. To look a function up there takes
 * its names and its line table; a program of pandas has 600 in its stacks, of which many met in single places. */
#define KEYS 1024
struct code_key {
    const void *code;
    uint64_t identity;
    uint32_t function;
};

/* Whole stacks seen lately, direct-mapped by hash; most samples end here. */
#define CACHED_STACKS 1024
struct cached_stack {
    uint64_t hash;
    uint32_t node;
    uint32_t count;
};

/* The stack looked up last, root first, and the node of each frame. The next one begins as it did, as a rule: there, a
 * comparison of neighbours in memory takes the place of two look-ups in tables. */
static struct {
    int count;
    int cut;
    struct {
        struct raw_frame frame;
        uint32_t node;
    } at[FA_MAX_STACK];
} last;

/* Steps down the tree taken lately, direct-mapped by hash of node and frame: one line of memory that the program has
 * driven out of the caches in place of four: code object, function, index, node (the last two: 550 cycles in pandas). */
#define EDGES 1024
struct edge {
    uint64_t hash;
    uint32_t node;
};

/* Lines looked up lately: to find one takes the line table from its begin, half a microsecond, and the same line has a
 * node below each of its callers. */
#define LINES 256
struct known_line {
    uint32_t function;
    int32_t lasti;
    int32_t line;
};

static struct code_key *keys;
static struct cached_stack *cached;
static struct edge *edges;
static struct known_line *lines;
static struct id_index functions_index, nodes_index, sites_index;

static uint32_t function_hash(uint32_t name, uint32_t file, int32_t first_line, uint32_t table)
{
    return hash_mix(((uint64_t)name << 32 | file) * 31 + (uint64_t)(uint32_t)first_line * 0x10001 + table);
}

static uint32_t node_hash(uint32_t parent, uint32_t function, int32_t lasti)
{
    return hash_mix(((uint64_t)parent << 32 | function) + (uint64_t)(uint32_t)lasti * 0x9FB21C651E98DF25ull);
}

static uint32_t site_hash(uint32_t node, uint32_t domain)
{
    return hash_mix((uint64_t)node * 8 + domain);
}

static uint32_t hash_of_function(uint32_t id)
{
    const struct fa_function *f = &fa.functions[id];
    return function_hash(f->name, f->file, f->first_line, f->line_table_hash);
}

static uint32_t hash_of_node(uint32_t id)
{
    return node_hash(fa.nodes[id].parent, fa.nodes[id].function, fa.nodes[id].lasti);
}

static uint32_t hash_of_site(uint32_t id)
{
    return site_hash(fa.sites[id].node, fa.sites[id].domain);
}

static void index_stacks(void)
{
    for (uint32_t id = 1; id < REGION(FA_NODES).used; id++) id_index_insert(&nodes_index, hash_of_node(id), id);
    for (uint32_t id = 1; id < REGION(FA_SITES).used; id++) id_index_insert(&sites_index, hash_of_site(id), id);
}

/* New pages are zero, and not resident until they are written. */
static void *emptied(void *table, size_t bytes)
{
    return table ? memset(table, 0, bytes) : raw_memory_map(bytes);
}

static int rebuild(void)
{
    keys = emptied(keys, KEYS * sizeof *keys);
    cached = emptied(cached, CACHED_STACKS * sizeof *cached);
    edges = emptied(edges, EDGES * sizeof *edges);
    lines = emptied(lines, LINES * sizeof *lines);
    last.count = 0;
    if (!keys || !cached || !edges || !lines) return -1;
    if (id_index_reset(&functions_index, 512, hash_of_function) | id_index_reset(&nodes_index, 2048, hash_of_node) |
        id_index_reset(&sites_index, 512, hash_of_site))
        return -1;
    for (uint32_t id = 1; id < REGION(FA_FUNCTIONS).used; id++) id_index_insert(&functions_index, hash_of_function(id), id);
    index_stacks();
    sweep_reset();
    return 0;
}

void sites_reindex(void)
{
    memset(cached, 0, CACHED_STACKS * sizeof *cached);
    memset(edges, 0, EDGES * sizeof *edges);
    last.count = 0;
    id_index_clear(&nodes_index);
    id_index_clear(&sites_index);
    index_stacks();
}

int sites_reset(void)
{
    REGION(FA_FUNCTIONS).used = REGION(FA_NODES).used = REGION(FA_SITES).used = 1;
    return rebuild();
}

int sites_child(void)
{
    /* Left mapped: another thread may have been growing them at the fork. */
    functions_index.slots = nodes_index.slots = sites_index.slots = NULL;
    return rebuild();
}

static uint32_t function_intern(const struct raw_frame *frame)
{
    struct code_names names;
    if (frame->kind == FRAME_NATIVE) native_frame_names(frame, &names);
    else stack_names_nopy(frame, &names);
    uint32_t name = string_intern(names.function, names.function_bytes);
    uint32_t file = string_intern(names.file, names.file_bytes);
    uint32_t hash = function_hash(name, file, names.first_line, names.line_table_hash);
    uint32_t id;
    for (id_probe probe = id_index_probe(&functions_index, hash); (id = id_index_next(&functions_index, &probe));) {
        const struct fa_function *f = &fa.functions[id];
        if (f->name == name && f->file == file && f->first_line == names.first_line &&
            f->line_table_hash == names.line_table_hash)
            return id;
    }
    struct fa_region *region = &REGION(FA_FUNCTIONS);
    if (region->used >= region->capacity) {
        fa_lose(FA_LOSS_FUNCTIONS);
        return 0;
    }
    id = (uint32_t)region->used;
    fa.functions[id] = (struct fa_function){name, file, names.first_line, names.line_table_hash};
    region->used++;
    id_index_insert(&functions_index, hash, id);
    return id;
}

static int is_key_of(const struct code_key *key, const struct raw_frame *frame)
{
    return key->code == frame->code && key->identity == frame->identity && key->function;
}

static uint32_t function_of(const struct raw_frame *frame)
{
    struct code_key *pair = &keys[hash_mix((uintptr_t)frame->code >> 4) % KEYS & ~1u];
    if (is_key_of(&pair[0], frame)) return pair[0].function;
    if (is_key_of(&pair[1], frame)) return pair[1].function;
    uint32_t function = function_intern(frame);
    if (!function) return 0; /* table full: what is known stays */
    pair[1] = pair[0]; /* what was put here before the other one goes */
    pair[0] = (struct code_key){frame->code, frame->identity, function};
    return function;
}

static int32_t line_of(uint32_t function, const struct raw_frame *frame)
{
    struct known_line *known = &lines[node_hash(0, function, frame->lasti) % LINES];
    if (known->function != function || known->lasti != frame->lasti || !function)
        *known = (struct known_line){function, frame->lasti, stack_line_nopy(frame)};
    return known->line;
}

static uint32_t child_of(uint32_t parent, uint32_t function, const struct raw_frame *frame)
{
    int32_t lasti = frame ? frame->lasti : -1;
    uint32_t hash = node_hash(parent, function, lasti);
    uint32_t id;
    for (id_probe probe = id_index_probe(&nodes_index, hash); (id = id_index_next(&nodes_index, &probe));)
        if (fa.nodes[id].parent == parent && fa.nodes[id].function == function && fa.nodes[id].lasti == lasti)
            return id;
    struct fa_region *region = &REGION(FA_NODES);
    if (region->used >= region->capacity) {
        fa_lose(FA_LOSS_NODES);
        return 0;
    }
    id = (uint32_t)region->used;
    fa.nodes[id] = (struct fa_node){parent, function, frame && frame->kind == FRAME_PYTHON ? line_of(function, frame) : 0, lasti};
    region->used++;
    id_index_insert(&nodes_index, hash, id);
    return id;
}

static uint32_t step(uint32_t node, const struct raw_frame *frame)
{
    uint64_t hash = (frame_hash(frame) ^ node * 0xA0761D6478BD642Full) * 0x9FB21C651E98DF25ull;
    struct edge *edge = &edges[(hash >> 32) % EDGES];
    if (edge->hash == hash && edge->node) return edge->node;
    uint32_t child = child_of(node, function_of(frame), frame);
    if (child) *edge = (struct edge){hash, child};
    return child;
}

/* How many frames from the root are those of the last stack. */
static int known_depth(const struct raw_frame *frames, int count)
{
    int depth = 0;
    for (; depth < count && depth < last.count; depth++) {
        const struct raw_frame *now = &frames[count - 1 - depth], *then = &last.at[depth].frame;
        if (now->code != then->code || now->identity != then->identity || now->lasti != then->lasti ||
            now->kind != then->kind)
            break;
    }
    return depth;
}

uint32_t stack_intern(const struct raw_frame *frames, int count, uint64_t hash, int cut)
{
    if (count <= 0) return 0;
    struct cached_stack *entry = &cached[hash % CACHED_STACKS];
    if (entry->hash == hash && entry->count == (uint32_t)count && entry->node) return entry->node;

    int known = cut == last.cut ? known_depth(frames, count) : 0;
    uint32_t node = known ? last.at[known - 1].node : cut ? child_of(0, 0, NULL) : 0; /* "the stack was cut here" */
    last.count = known;
    last.cut = cut;
    for (int depth = known; depth < count; depth++) {
        const struct raw_frame *frame = &frames[count - 1 - depth];
        uint32_t child = step(node, frame);
        if (!child) return node; /* table full: the part that was known, counted as a loss */
        last.at[depth].frame = *frame;
        last.at[depth].node = node = child;
        last.count = depth + 1;
    }
    *entry = (struct cached_stack){hash, node, (uint32_t)count};
    return node;
}

uint32_t site_intern(uint32_t node, uint32_t domain)
{
    uint32_t hash = site_hash(node, domain);
    uint32_t id;
    if (!node && !domain) return 0;
    for (id_probe probe = id_index_probe(&sites_index, hash); (id = id_index_next(&sites_index, &probe));)
        if (fa.sites[id].node == node && fa.sites[id].domain == domain) return id;
    struct fa_region *region = &REGION(FA_SITES);
    if (region->used >= region->capacity) {
        fa_lose(FA_LOSS_SITES);
        return 0;
    }
    id = (uint32_t)region->used;
    fa.sites[id] = (struct fa_site){.node = node, .domain = domain, .held.peak = fa.header->peak};
    region->used++;
    id_index_insert(&sites_index, hash, id);
    return id;
}

void fa_live_by_domain(uint64_t bytes[FA_DOMAIN_COUNT])
{
    memset(bytes, 0, FA_DOMAIN_COUNT * sizeof *bytes);
    if (!fa.header) return;
    fa_lock();
    for (uint64_t i = 0; i < REGION(FA_SITES).used; i++)
        if (fa.sites[i].domain < FA_DOMAIN_COUNT) bytes[fa.sites[i].domain] += fa.sites[i].held.live_bytes;
    fa_unlock();
}
