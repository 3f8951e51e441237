#include "sweep.h"

#include <string.h>

#include "fastalloc.h"
#include "held.h"
#include "raw_memory.h"
#include "recorder.h"
#include "sites.h"
#include "stack.h"

/* So many are touched where a program has ever new stacks; under powers of two, where the indices would double. */
#define SITES_BUDGET 2048u
#define NODES_BUDGET 8192u
#define AGAIN_NS 60000000000ull /* after a sweep that found next to nothing to give up */

static uint64_t sites_budget, nodes_budget, not_before_ns;

static uint64_t budget(enum fa_region_id id, uint64_t least, uint64_t kept)
{
    uint64_t wanted = kept * 2 > least ? kept * 2 : least;
    return wanted < REGION(id).capacity ? wanted : REGION(id).capacity;
}

void sweep_reset(void)
{
    sites_budget = budget(FA_SITES, SITES_BUDGET, REGION(FA_SITES).used / 2);
    nodes_budget = budget(FA_NODES, NODES_BUDGET, REGION(FA_NODES).used / 2);
    not_before_ns = 0;
}

static uint64_t ring_length(enum fa_region_id id)
{
    const struct fa_region *ring = &REGION(id);
    return ring->used < ring->capacity ? ring->used : ring->capacity;
}

static void mark_sites(uint32_t *keep)
{
    for (uint64_t i = 0; i < REGION(FA_SITES).used; i++)
        keep[i] = fa.sites[i].held.samples || held_high_water(&fa.sites[i].held);
    for (uint64_t i = 0; i < ring_length(FA_FREED); i++) keep[fa.freed[i].site] = 1;
}

static void mark_stack(uint32_t *keep, uint32_t node)
{
    for (; node && !keep[node]; node = fa.nodes[node].parent) keep[node] = 1;
}

static void mark_nodes(uint32_t *keep, const uint32_t *sites_kept)
{
    for (uint64_t i = 1; i < REGION(FA_SITES).used; i++)
        if (sites_kept[i]) mark_stack(keep, fa.sites[i].node);
    for (uint64_t i = 0; i < ring_length(FA_EVENTS); i++) mark_stack(keep, fa.events[i].node);
}

/* Marks become new indices, 0 where nothing is kept. Returns how many are kept, entry 0 among them. */
static uint64_t number(uint32_t *kept, uint64_t used)
{
    uint32_t next = 1;
    kept[0] = 0;
    for (uint64_t i = 1; i < used; i++) kept[i] = kept[i] ? next++ : 0;
    return next;
}

static void move(const uint32_t *site_at, const uint32_t *node_at)
{
    for (uint64_t i = 1; i < REGION(FA_NODES).used; i++) {
        if (!node_at[i]) continue;
        struct fa_node node = fa.nodes[i];
        node.parent = node_at[node.parent];
        fa.nodes[node_at[i]] = node;
    }
    for (uint64_t i = 1; i < REGION(FA_SITES).used; i++) {
        struct fa_site site = fa.sites[i];
        site.node = node_at[site.node];
        if (site_at[i]) {
            fa.sites[site_at[i]] = site;
        } else {
            fa.sites[0].total_bytes += site.total_bytes;
            fa.sites[0].total_count_q16 += site.total_count_q16;
        }
    }
    for (uint64_t i = 1; i < REGION(FA_LIVE).used; i++)
        if (fa.live[i].address) fa.live[i].site = site_at[fa.live[i].site];
    for (uint64_t i = 0; i < ring_length(FA_FREED); i++) fa.freed[i].site = site_at[fa.freed[i].site];
    for (uint64_t i = 0; i < ring_length(FA_EVENTS); i++) fa.events[i].node = node_at[fa.events[i].node];
}

static void sweep(uint32_t *site_at, uint32_t *node_at)
{
    mark_sites(site_at);
    mark_nodes(node_at, site_at);
    uint64_t sites = number(site_at, REGION(FA_SITES).used), nodes = number(node_at, REGION(FA_NODES).used);
    sites_budget = budget(FA_SITES, SITES_BUDGET, sites);
    nodes_budget = budget(FA_NODES, NODES_BUDGET, nodes);
    if (sites * 8 > REGION(FA_SITES).capacity * 7ull || nodes * 8 > REGION(FA_NODES).capacity * 7ull)
        not_before_ns = fa_now_ns() + AGAIN_NS; /* nearly all of it is in use: do not try at every sample */
    __atomic_store_n(&fa.header->sweeping, 1, __ATOMIC_RELEASE);
    move(site_at, node_at);
    REGION(FA_SITES).used = sites;
    REGION(FA_NODES).used = nodes;
    sites_reindex();
    fa.header->sweeps++;
    __atomic_store_n(&fa.header->sweeping, 0, __ATOMIC_RELEASE);
}

void sweep_if_needed(void)
{
    uint64_t sites = REGION(FA_SITES).used, nodes = REGION(FA_NODES).used;
    if (LIKELY(sites < sites_budget && nodes + FA_MAX_STACK < nodes_budget)) return;
    if (not_before_ns && fa_now_ns() < not_before_ns) return;
    uint32_t *at = raw_memory_map((sites + nodes) * sizeof *at);
    if (!at) return;
    sweep(at, at + sites);
    raw_memory_unmap(at, (sites + nodes) * sizeof *at);
}
