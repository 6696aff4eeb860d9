// SPDX-License-Identifier: GPL-2.0
/*
 * lapic_ipi.c - interrupt messages between LAPICs, and from devices to them:
 *  1. the APIC map: from a destination to vCPUs without asking each,
 *  2. destinations: physical, flat, cluster, x2APIC cluster, broadcast,
 *     lowest priority,
 *  3. acceptance by delivery mode, INIT and SIPI,
 *  4. the interrupt command register.
 *
 * The map needs no grace period: its entries point to vCPUs, which live as long
 * as the VM, and each is replaced by one store. Writers hold map->lock. A
 * sender that races with the guest's own change of an APIC ID reaches the old
 * or the new owner, as on a bus.
 */
#include <linux/slab.h>

#include "lapic.h"
#include "trace.h"

enum map_logical { LOGICAL_NONE, LOGICAL_FLAT, LOGICAL_CLUSTER, LOGICAL_X2APIC, LOGICAL_MIXED };

#define NR_LOGICAL	60	/* 15 clusters of 4; flat: the first 8 */
#define CHUNK_IDS	64
#define NR_CHUNKS	(PVHV_MAX_VCPU_ID / CHUNK_IDS)
#define XAPIC_CHUNKS	(256 / CHUNK_IDS)

/* Physical IDs that lie together; what vCPUs have no ID in has no chunk. */
struct map_chunk {
	struct pvhv_lapic *live[CHUNK_IDS];
	struct pvhv_lapic *next[CHUNK_IDS];	/* writers' scratch */
};

struct pvhv_apic_map {
	raw_spinlock_t lock;
	bool irregular;		/* two vCPUs have one physical ID: ask each */
	u8 logical;		/* enum map_logical; MIXED: ask each */
	struct pvhv_lapic *live_logical[NR_LOGICAL];
	struct pvhv_lapic *next_logical[NR_LOGICAL];
	struct map_chunk *chunk[NR_CHUNKS];	/* set once, with release */
	struct map_chunk low[XAPIC_CHUNKS];	/* a guest may choose among these IDs */
};

int pvhv_apic_map_create(struct pvhv_vm *vm)
{
	struct pvhv_apic_map *map = kvzalloc(sizeof(*map), GFP_KERNEL_ACCOUNT);
	unsigned int i;

	if (!map)
		return -ENOMEM;
	raw_spin_lock_init(&map->lock);
	for (i = 0; i < XAPIC_CHUNKS; i++)
		map->chunk[i] = &map->low[i];
	vm->apic_map = map;
	return 0;
}

void pvhv_apic_map_destroy(struct pvhv_vm *vm)
{
	unsigned int i;

	if (!vm->apic_map)
		return;
	for (i = XAPIC_CHUNKS; i < NR_CHUNKS; i++)
		kfree(vm->apic_map->chunk[i]);
	kvfree(vm->apic_map);
	vm->apic_map = NULL;
}

/* A vCPU with this ID is being made. vm->lock. */
int lapic_map_make_room(struct pvhv_vm *vm, u32 id)
{
	struct map_chunk **chunk = &vm->apic_map->chunk[id / CHUNK_IDS], *new;

	if (*chunk)
		return 0;
	new = kzalloc(sizeof(*new), GFP_KERNEL_ACCOUNT);
	if (!new)
		return -ENOMEM;
	smp_store_release(chunk, new);
	return 0;
}

/* Who has this physical ID, NULL: nobody. */
static struct pvhv_lapic *by_id(const struct pvhv_apic_map *map, u32 id)
{
	struct map_chunk *chunk;

	if (id >= PVHV_MAX_VCPU_ID)
		return NULL;
	id = array_index_nospec(id, PVHV_MAX_VCPU_ID);
	chunk = smp_load_acquire(&map->chunk[id / CHUNK_IDS]);
	return chunk ? READ_ONCE(chunk->live[id % CHUNK_IDS]) : NULL;
}

/* The ID that physical destinations name. IDs above 255 are heard in xAPIC
 * mode too, as KVM has it: else such a vCPU could never get its INIT. */
static u32 physical_id(const struct pvhv_lapic *l)
{
	u32 id = l->vcpu->id;

	return lapic_mode(l) == LAPIC_X2APIC || id > 0xff ? id : lapic_reg(l, APIC_ID) >> 24;
}

static u8 map_logical(struct pvhv_apic_map *map, struct pvhv_lapic *l)
{
	u32 ldr = lapic_reg(l, APIC_LDR) >> 24;
	unsigned int first = 0, bits = ldr;
	u8 kind = LOGICAL_FLAT;

	if (lapic_mode(l) == LAPIC_X2APIC)
		return LOGICAL_X2APIC;	/* follows from the physical ID */
	if (!ldr)
		return LOGICAL_NONE;
	if (lapic_reg(l, APIC_DFR) != APIC_DFR_FLAT) {
		kind = LOGICAL_CLUSTER;
		first = (ldr >> 4) * 4;
		bits = ldr & 0xf;
	}
	if (hweight32(bits) != 1 || first >= NR_LOGICAL ||
	    map->next_logical[first + __ffs(bits)])
		return LOGICAL_MIXED;
	map->next_logical[first + __ffs(bits)] = l;
	return kind;
}

void lapic_map_update(struct pvhv_vm *vm)
{
	struct pvhv_apic_map *map = vm->apic_map;
	u8 logical = LOGICAL_NONE, kind;
	struct pvhv_lapic **slot;
	bool irregular = false;
	struct pvhv_vcpu *vcpu;
	unsigned long flags;
	unsigned int i, j;
	u32 id;

	if (!map)
		return;
	raw_spin_lock_irqsave(&map->lock, flags);
	memset(map->next_logical, 0, sizeof(map->next_logical));
	for (i = 0; i < NR_CHUNKS; i++)
		if (map->chunk[i])
			memset(map->chunk[i]->next, 0, sizeof(map->chunk[i]->next));
	pvhv_for_each_vcpu(i, vcpu, vm) {
		struct pvhv_lapic *l = vcpu->lapic;

		if (!l || lapic_mode(l) == LAPIC_OFF)
			continue;
		/* xAPIC's, or the vCPU's own: both have a chunk. */
		id = physical_id(l);
		slot = &map->chunk[id / CHUNK_IDS]->next[id % CHUNK_IDS];
		if (*slot)
			irregular = true;
		*slot = l;
		kind = map_logical(map, l);
		if (kind == LOGICAL_NONE || kind == logical)
			continue;
		logical = logical == LOGICAL_NONE ? kind : LOGICAL_MIXED;
	}
	/* While the tables change, ask each vCPU. */
	WRITE_ONCE(map->logical, LOGICAL_MIXED);
	WRITE_ONCE(map->irregular, true);
	smp_wmb();
	for (i = 0; i < NR_CHUNKS; i++) {
		struct map_chunk *chunk = map->chunk[i];

		for (j = 0; chunk && j < CHUNK_IDS; j++)
			WRITE_ONCE(chunk->live[j], chunk->next[j]);
	}
	for (i = 0; i < NR_LOGICAL; i++)
		WRITE_ONCE(map->live_logical[i], map->next_logical[i]);
	smp_wmb();
	WRITE_ONCE(map->logical, logical);
	WRITE_ONCE(map->irregular, irregular);
	raw_spin_unlock_irqrestore(&map->lock, flags);
}

void pvhv_lapic_published(struct pvhv_vcpu *vcpu)
{
	lapic_map_update(vcpu->vm);
}

struct pvhv_vcpu *pvhv_vcpu_by_apic_id(struct pvhv_vm *vm, u32 apic_id)
{
	struct pvhv_lapic *l;

	if (!vm->apic_map)
		return NULL;
	l = by_id(vm->apic_map, apic_id);
	return l ? l->vcpu : NULL;
}

/* ------------------------------------------------------- destinations -- */

/* To all? 0xff is all for devices and in xAPIC mode; whether a device reaches
 * x2APIC vCPUs by it is up to KVM_CAP_X2APIC_API. */
static bool is_broadcast(struct pvhv_vm *vm, const struct pvhv_lapic *src, u32 dest)
{
	if (dest == 0xffffffff)
		return true;
	if (dest != 0xff || (src && src->mode == LAPIC_X2APIC))
		return false;
	return !(vm->x2apic_api & KVM_X2APIC_API_DISABLE_BROADCAST_QUIRK);
}

/* Does this LAPIC think that it is meant? (The slow, sure way.) */
static bool matches(const struct pvhv_lapic *l, u32 dest, bool logical)
{
	int mode = lapic_mode(l);
	u32 ldr;

	if (mode == LAPIC_OFF)
		return false;
	if (mode == LAPIC_XAPIC && dest == 0xff)
		return true;
	if (!logical)
		return dest == physical_id(l);
	if (mode == LAPIC_X2APIC) {
		ldr = lapic_x2apic_ldr(l->vcpu->id);
		return ldr >> 16 == dest >> 16 && (ldr & dest & 0xffff);
	}
	ldr = lapic_reg(l, APIC_LDR) >> 24;
	if (dest > 0xff)
		return false;
	if (lapic_reg(l, APIC_DFR) == APIC_DFR_FLAT)
		return ldr & dest;
	return (dest >> 4 == 0xf || ldr >> 4 == dest >> 4) && (ldr & dest & 0xf);
}

static void add(unsigned long *set, const struct pvhv_lapic *l)
{
	if (l)
		__set_bit(l->vcpu->idx, set);
}

static void targets_by_asking(struct pvhv_vm *vm, const struct pvhv_apic_msg *msg, bool all,
			      unsigned long *set)
{
	struct pvhv_vcpu *vcpu;
	unsigned int i;

	pvhv_for_each_vcpu(i, vcpu, vm) {
		if (!vcpu->lapic)
			continue;
		if (all ? lapic_mode(vcpu->lapic) != LAPIC_OFF :
			  matches(vcpu->lapic, msg->dest, msg->logical))
			__set_bit(i, set);
	}
}

/* The vCPUs that a message names, as bits by index. */
static void targets(struct pvhv_vm *vm, const struct pvhv_lapic *src,
		    const struct pvhv_apic_msg *msg, unsigned long *set)
{
	const struct pvhv_apic_map *map = vm->apic_map;
	bool all = is_broadcast(vm, src, msg->dest);
	u32 dest = msg->dest, first, bit;
	unsigned long bits;

	bitmap_zero(set, PVHV_MAX_VCPUS);
	if (all || dest == 0xff || READ_ONCE(map->irregular)) {
		targets_by_asking(vm, msg, all, set);
		return;
	}
	if (!msg->logical) {
		add(set, by_id(map, dest));
		return;
	}
	switch (READ_ONCE(map->logical)) {
	case LOGICAL_NONE:
		return;
	case LOGICAL_X2APIC:
		bits = dest & 0xffff;
		first = (dest >> 16) * 16;
		for_each_set_bit(bit, &bits, 16)
			add(set, by_id(map, first + bit));
		return;
	case LOGICAL_FLAT:
		if (dest > 0xff)
			return;
		bits = dest;
		for_each_set_bit(bit, &bits, 8)
			add(set, READ_ONCE(map->live_logical[bit]));
		return;
	case LOGICAL_CLUSTER:
		if (dest < 0xf0) {
			bits = dest & 0xf;
			for_each_set_bit(bit, &bits, 4)
				add(set, READ_ONCE(map->live_logical[(dest >> 4) * 4 + bit]));
			return;
		}
		break;
	}
	targets_by_asking(vm, msg, false, set);
}

/* One of several: the lowest priority; ties go round by vector. */
static struct pvhv_lapic *lowest_priority(struct pvhv_vm *vm, const unsigned long *set, u8 vector)
{
	unsigned int n = bitmap_weight(set, PVHV_MAX_VCPUS), i, at = 0, skip = vector % n;
	struct pvhv_lapic *best = NULL, *l;
	u32 best_rank = U32_MAX, rank;

	for_each_set_bit(i, set, PVHV_MAX_VCPUS) {
		l = vm->vcpus[i]->lapic;
		rank = (lapic_ppr(l) & 0xf0) << 16 | (at + n - skip) % n;
		at++;
		if (lapic_sw_enabled(l) && rank < best_rank) {
			best = l;
			best_rank = rank;
		}
	}
	return best;
}

static int deliver_set(struct pvhv_vm *vm, struct pvhv_vcpu *src,
		       const struct pvhv_apic_msg *msg, const unsigned long *set)
{
	int taken = -1;
	unsigned int i;

	for_each_set_bit(i, set, PVHV_MAX_VCPUS)
		taken = max(taken, 0) + lapic_accept(vm->vcpus[i]->lapic, src, msg);
	return taken;
}

int pvhv_apic_deliver(struct pvhv_vm *vm, struct pvhv_vcpu *src,
		      const struct pvhv_apic_msg *msg)
{
	struct pvhv_lapic *src_lapic = src ? src->lapic : NULL, *l;
	const struct pvhv_apic_map *map = vm->apic_map;
	DECLARE_BITMAP(set, PVHV_MAX_VCPUS);

	/* Nearly always: one vCPU by its ID. */
	if (!msg->logical && !READ_ONCE(map->irregular) && msg->dest < PVHV_MAX_VCPU_ID &&
	    msg->dest != 0xff) {
		l = by_id(map, msg->dest);
		return l ? lapic_accept(l, src, msg) : -1;
	}
	targets(vm, src_lapic, msg, set);
	if (!msg->lowest || bitmap_empty(set, PVHV_MAX_VCPUS))
		return deliver_set(vm, src, msg, set);
	l = lowest_priority(vm, set, msg->vector);
	return l ? lapic_accept(l, src, msg) : 0;
}

/* --------------------------------------------------------- acceptance -- */

/* 1: taken, 0: refused. */
int lapic_accept(struct pvhv_lapic *l, const struct pvhv_vcpu *src,
		 const struct pvhv_apic_msg *msg)
{
	trace_pvhv_apic_accept(l->vcpu->id, msg->mode, msg->level, msg->vector);
	switch (msg->mode << 8) {
	case APIC_DM_FIXED:
	case APIC_DM_LOWEST:
		if (unlikely(!lapic_sw_enabled(l)))
			return 0;
		if (unlikely(msg->vector < 16)) {
			lapic_error(l, APIC_ESR_RECVILL);
			return 0;
		}
		lapic_post(l, msg->vector, msg->level, src);
		return 1;
	case APIC_DM_NMI:
		pvhv_queue_nmi(l->vcpu);
		return 1;
	case APIC_DM_INIT:
		/* An older SIPI is void. */
		xchg(&l->events, BIT(LAPIC_EVENT_INIT));
		pvhv_make_request(l->vcpu, PVHV_REQ_APIC_EVENTS);
		return 1;
	case APIC_DM_STARTUP:
		WRITE_ONCE(l->sipi_vector, msg->vector);
		smp_wmb();
		set_bit(LAPIC_EVENT_SIPI, &l->events);
		pvhv_make_request(l->vcpu, PVHV_REQ_APIC_EVENTS);
		return 1;
	}
	/* SMI: there is no SMM; ExtINT comes over LINT0 only. */
	return 0;
}

bool pvhv_lapic_has_events(struct pvhv_vcpu *vcpu)
{
	return vcpu->lapic && READ_ONCE(vcpu->lapic->events);
}

int pvhv_lapic_events(struct pvhv_vcpu *vcpu)
{
	struct pvhv_lapic *l = vcpu->lapic;
	struct kvm_segment cs;
	u8 vector;

	if (!l || !READ_ONCE(l->events))
		return PVHV_RESUME;
	if (test_and_clear_bit(LAPIC_EVENT_INIT, &l->events)) {
		pvhv_vcpu_reset(vcpu, true);
		vcpu->mp_state = vcpu->is_bsp ? KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_INIT_RECEIVED;
	}
	if (!test_and_clear_bit(LAPIC_EVENT_SIPI, &l->events) ||
	    vcpu->mp_state != KVM_MP_STATE_INIT_RECEIVED)
		return PVHV_RESUME;
	smp_rmb();
	vector = READ_ONCE(l->sipi_vector);
	vcpu->be->get_segment(vcpu, &cs, PVHV_CS);
	cs.selector = vector << 8;
	cs.base = (u64)vector << 12;
	vcpu->be->set_segment(vcpu, &cs, PVHV_CS);
	vcpu->rip = 0;
	vcpu->mp_state = KVM_MP_STATE_RUNNABLE;
	return PVHV_RESUME;
}

/* --------------------------------------------------------------- ICR -- */

void lapic_write_icr(struct pvhv_lapic *l, u32 low, u32 dest)
{
	struct pvhv_apic_msg msg = {
		.dest = dest,
		.vector = low & APIC_VECTOR_MASK,
		.mode = GET_APIC_DELIVERY_MODE(low),
		.logical = low & APIC_DEST_LOGICAL,
		.lowest = (low & APIC_MODE_MASK) == APIC_DM_LOWEST,
	};
	struct pvhv_vcpu *self = l->vcpu;
	DECLARE_BITMAP(set, PVHV_MAX_VCPUS);
	bool fixed = (low & APIC_MODE_MASK) <= APIC_DM_LOWEST;

	trace_pvhv_apic_ipi(self->id, low, dest);
	if (unlikely(fixed && msg.vector < 16)) {
		lapic_error(l, APIC_ESR_SENDILL);
		return;
	}
	switch (low & APIC_DEST_ALLBUT) {
	case APIC_DEST_SELF:
		if (fixed)
			lapic_accept(l, self, &msg);
		return;
	case 0:
		/* INIT level de-assert: today's LAPICs ignore it. */
		if (msg.mode << 8 == APIC_DM_INIT &&
		    (low & (APIC_INT_LEVELTRIG | APIC_INT_ASSERT)) == APIC_INT_LEVELTRIG)
			return;
		pvhv_apic_deliver(self->vm, self, &msg);
		return;
	default:
		if (msg.mode << 8 == APIC_DM_INIT &&
		    (low & (APIC_INT_LEVELTRIG | APIC_INT_ASSERT)) == APIC_INT_LEVELTRIG)
			return;
		bitmap_zero(set, PVHV_MAX_VCPUS);
		targets_by_asking(self->vm, &msg, true, set);
		if ((low & APIC_DEST_ALLBUT) == APIC_DEST_ALLBUT)
			__clear_bit(self->idx, set);
		deliver_set(self->vm, self, &msg, set);
	}
}
