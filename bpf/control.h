/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the daemon asks for. It runs by BPF_PROG_TEST_RUN and is never attached: a map update from user
 * space would overwrite counters that packets write at the same time. Returns 0, or an errno.
 */
#ifndef THROUGHWAY_CONTROL_H
#define THROUGHWAY_CONTROL_H

#include <asm-generic/errno-base.h>

#include "hold.h"

/* Write the list of a fan-out in place, so that whoever reads it sees hosts of this flow and no other. */
static __always_inline int fan_out_write(const struct control_request *request)
{
	struct fan_out *list = bpf_map_lookup_elem(&fan_outs, &request->key);
	struct fan_out *fresh = list;
	__u32 zero = 0;

	if (!fresh)
		fresh = bpf_map_lookup_elem(&fan_out_scratch, &zero);
	if (!fresh)
		return ENOENT;
	fresh->count = request->count;
	__builtin_memcpy(fresh->hosts, request->hosts, sizeof(fresh->hosts));
	return list ? 0 : -bpf_map_update_elem(&fan_outs, &request->key, fresh, BPF_ANY);
}

/* Have ICMP errors find the host of a flow to a peer, which may have been sent from another address before. */
static __always_inline int sender_write(const struct control_request *request, const struct mapping *mapping)
{
	const struct flow_key *key = &request->key;
	struct sender_key sender = {
		.peer = key->peer,
		.protocol = key->protocol,
		.port = key->port,
		.discriminator = key->discriminator,
		.slot = mapping->slot,
	};
	__be32 *found;

	if (key->direction != TO_PEER || !key->host)
		return 0;
	if (mapping->slot != request->slot) {
		found = bpf_map_lookup_elem(&senders, &sender);
		if (found && *found == key->host)
			bpf_map_delete_elem(&senders, &sender);
	}
	sender.slot = request->slot;
	return -bpf_map_update_elem(&senders, &sender, &key->host, BPF_ANY);
}

/* The mapping of the flow, made inactive if there is none. */
static __always_inline struct mapping *mapping_begin(const struct control_request *request, __be32 host,
		__u32 flags, int *failed)
{
	struct mapping fresh = {
		.host = host,
		.flags = flags,
		.created_ns = bpf_ktime_get_ns(),
		.slot = request->slot,
	};
	const struct flow_key *key = &request->key;
	struct mapping *mapping = bpf_map_lookup_elem(&mappings, key);

	if (mapping)
		return mapping;
	*failed = -bpf_map_update_elem(&mappings, key, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&mappings, key);
}

/* Open the flow, at once or when what is held has passed. */
static __always_inline void flow_open(const struct flow_key *key, struct mapping *mapping,
		__be32 host, __u32 flags)
{
	struct pending *entry = bpf_map_lookup_elem(&pending, key);

	flags |= mapping->flags & MAPPING_TRACED;
	if (!entry) {
		mapping->host = host;
		mapping->flags = flags | MAPPING_ACTIVE;
		return;
	}
	bpf_spin_lock(&entry->lock);
	mapping->host = host;
	if (!(mapping->flags & MAPPING_ACTIVE) && held_of(entry)) {
		mapping->flags = flags;
		if (entry->state != PENDING_DRAINING) {
			entry->state = PENDING_DRAINING;
			entry->drain_cap = entry->punted + DRAIN_MORE_MAX;
		}
	} else {
		mapping->flags = flags | MAPPING_ACTIVE;
		entry->state = PENDING_DONE;
	}
	bpf_spin_unlock(&entry->lock);
}

/* Give the flow to its hosts: first the list, then the mapping that points to it, then the way is opened. */
static __noinline int decide(const struct control_request *request)
{
	__u32 flags = request->count > 1 ? MAPPING_FAN_OUT : 0;
	__u32 last = request->count - 1;
	struct mapping *mapping;
	int failed = 0;
	__be32 host;

	if (last >= FAN_OUT_MAX || request->slot >= SLOTS_MAX)
		return EINVAL;
	host = request->hosts[last];
	if (flags)
		failed = fan_out_write(request);
	if (failed)
		return failed;
	mapping = mapping_begin(request, host, flags, &failed);
	if (!mapping)
		return failed ? failed : ENOENT;
	failed = sender_write(request, mapping);
	mapping->slot = request->slot;
	flow_open(&request->key, mapping, host, flags);
	return failed;
}

/* Drop what comes of the flow until the time given. What is held the daemon drops: it will not be back. */
static __noinline int refuse(const struct control_request *request)
{
	struct pending *entry = bpf_map_lookup_elem(&pending, &request->key);

	if (!entry)
		entry = pending_begin(&request->key);
	if (!entry)
		return E2BIG;
	bpf_spin_lock(&entry->lock);
	entry->state = PENDING_REFUSED;
	entry->until_ns = request->until_ns;
	entry->reinjected = entry->punted;
	bpf_spin_unlock(&entry->lock);
	return 0;
}

/* Nothing more will be put back of the `expected` packets that the daemon was handed. Those that have not
 * passed are lost, to somebody's filter perhaps; nobody should wait for them any longer. EAGAIN: more
 * were handed over meanwhile.
 */
static __noinline int watchdog(const struct control_request *request)
{
	struct pending *entry = bpf_map_lookup_elem(&pending, &request->key);
	struct mapping *mapping = bpf_map_lookup_elem(&mappings, &request->key);
	int answer = 0;

	if (!entry)
		return ENOENT;
	bpf_spin_lock(&entry->lock);
	if (entry->state == PENDING_DRAINING && entry->punted == request->expected) {
		entry->reinjected = entry->punted;
		entry->state = PENDING_DONE;
		if (mapping)
			mapping->flags |= MAPPING_ACTIVE;
	} else if (entry->state == PENDING_DRAINING) {
		answer = EAGAIN;
	}
	bpf_spin_unlock(&entry->lock);
	return answer;
}

/* Forget that the flow was undecided. Its sender may have another one instead. */
static __noinline int forget(const struct control_request *request)
{
	if (!bpf_map_delete_elem(&pending, &request->key))
		share_take_flow(&request->key);
	return 0;
}

/* Note the times of the flow's packets from now on, or no more. */
static __noinline int trace(const struct control_request *request)
{
	struct mapping *mapping = bpf_map_lookup_elem(&mappings, &request->key);

	if (!mapping)
		return ENOENT;
	if (request->op == CONTROL_TRACE)
		__sync_fetch_and_or(&mapping->flags, MAPPING_TRACED);
	else
		__sync_fetch_and_and(&mapping->flags, ~MAPPING_TRACED);
	return 0;
}

SEC("tc")
int control(struct __sk_buff *skb)
{
	struct control_request request;

	if (bpf_skb_load_bytes(skb, ETH_HLEN, &request, sizeof(request)))
		return EINVAL;
	switch (request.op) {
	case CONTROL_DECIDE:
		return decide(&request);
	case CONTROL_REFUSE:
		return refuse(&request);
	case CONTROL_WATCHDOG:
		return watchdog(&request);
	case CONTROL_TRACE:
	case CONTROL_UNTRACE:
		return trace(&request);
	case CONTROL_FORGET:
		return forget(&request);
	}
	return EINVAL;
}

#endif
