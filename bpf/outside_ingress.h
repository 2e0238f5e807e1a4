/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From outside: before connection tracking, and before the stack knows of the packet. */
#ifndef THROUGHWAY_OUTSIDE_INGRESS_H
#define THROUGHWAY_OUTSIDE_INGRESS_H

#include "icmp.h"
#include "short_path.h"
#include "trace.h"

/* Give the packet to the router's own stack, as it came. It passes no inside interface, so this is where
 * it counts as back if it was held.
 */
static __always_inline int deliver_to_router(struct packet *p, const struct flow_key *key, int was_held)
{
	count(REASON_ROUTER_OWN);
	mark_set(p, 0);
	if (was_held)
		held_packet_passed(key);
	return PASS;
}

/* Give the packet to one host: its address instead of ours, and the mark that the forward filter accepts. */
static __always_inline int deliver_to_host(struct packet *p, __be32 host, int was_held)
{
	if (destination_replace(p, host))
		return drop(REASON_REWRITE_FAILED);
	mark_set(p, p->config->mark_carried | (was_held ? p->config->mark_reinjected : 0));
	count(REASON_TRANSLATED_TO_INSIDE);
	return PASS;
}

/* Give a copy to every host of the list, and the packet itself to the last.
 *
 * The clones come in by this interface again, after what already waits in the backlog; they carry our
 * mark, so the program lets them through to routing. They are not held packets: a packet counts once as
 * back, however many copies it has. For the same reason the original of a held packet takes the same way
 * as its clones: it must not be counted while they still wait.
 */
static __always_inline int deliver_to_all(struct packet *p, const struct flow_key *key,
		const struct fan_out *list, int was_held)
{
	__u32 zero = 0;
	struct fan_out *copy = bpf_map_lookup_elem(&fan_out_scratch, &zero);
	__be32 host = 0;
	long failed;

	if (!copy)
		return drop(REASON_REWRITE_FAILED);
	*copy = *list; /* a verdict may change the list while we walk it */
	mark_set(p, p->config->mark_carried);
	for (__u32 i = 0; i < FAN_OUT_MAX && i < copy->count; i++) {
		host = copy->hosts[i];
		if (destination_replace(p, host ? host : address_of(p->config, key->host)))
			return drop(REASON_REWRITE_FAILED);
		if (i + 1 >= copy->count || i + 1 == FAN_OUT_MAX)
			break;
		failed = bpf_clone_redirect(p->skb, p->skb->ifindex, BPF_F_INGRESS);
		count(failed ? REASON_CLONE_FAILED : REASON_FAN_OUT_COPY);
	}
	if (!host)
		return deliver_to_router(p, key, was_held);
	count(REASON_TRANSLATED_TO_INSIDE);
	if (!was_held)
		return PASS;
	mark_set(p, p->config->mark_carried | p->config->mark_reinjected);
	return bpf_redirect(p->skb->ifindex, BPF_F_INGRESS);
}

static __always_inline int deliver(struct packet *p, const struct flow_key *key,
		struct mapping *mapping, int was_held)
{
	struct fan_out *list = NULL;
	int verdict;

	if (!was_held && mapping->host && !(mapping->flags & (MAPPING_FAN_OUT | MAPPING_TRACED))) {
		verdict = short_to_host(p, mapping, mapping->host);
		if (verdict != PASS)
			return verdict;
	}
	mapping_count(p, mapping);
	trace_packet(key, mapping);
	if (mapping->flags & MAPPING_FAN_OUT)
		list = bpf_map_lookup_elem(&fan_outs, key);
	if (list)
		return deliver_to_all(p, key, list, was_held);
	if (!mapping->host)
		return deliver_to_router(p, key, was_held);
	return deliver_to_host(p, mapping->host, was_held);
}

/* Let a packet of one of our protocols pass that is none of our business, and its fragments with it. Of a stranger
 * nothing is remembered: all that it sends passes.
 */
static __always_inline int leave_to_stack(struct packet *p, const struct flow_key *key, int was_held)
{
	struct budget *known;

	if (p->more_fragments || p->fragment_offset) {
		known = bpf_map_lookup_elem(&peers, &key->peer);
		if (known && known->by_host)
			fragment_came(p, key, FRAGMENT_PASSES, was_held);
	}
	mark_set(p, 0);
	return PASS;
}

/* Whether a packet of an unknown flow is for the router's own stack, which may have a tunnel of its own there and
 * else answers that it does not know the protocol (RFC 1122 section 3.2.2.1). ESP is never asked about this: it
 * says nothing to whom it is not for, and a stranger's gets no answer.
 */
static __noinline int is_for_stack(const struct flow_key *key)
{
	struct budget *known = bpf_map_lookup_elem(&peers, &key->peer);
	struct flow_key own = *key;

	if (!known || !known->by_host)
		return 1;
	own.direction = TO_PEER;
	own.host = 0;
	return bpf_map_lookup_elem(&mappings, &own) != NULL;
}

/* A later fragment came before its first one. It waits, if the first one may be for somebody inside. HOLD_OPEN
 * when that one has come meanwhile.
 */
static __always_inline int later_to_inside(struct packet *p, struct flow_key *key)
{
	struct budget *known = bpf_map_lookup_elem(&peers, &key->peer);

	if (p->protocol == IPPROTO_ESP && !known)
		return drop(REASON_NO_CANDIDATE);
	if (p->protocol != IPPROTO_ESP && (!known || !known->by_host))
		return PASS;
	return fragment_hold(p, key);
}

/* Our protocols to the inside: find the host that owns this flow.
 *
 * A miss is not an error: the first packet of a new SA always misses and goes to the daemon, which
 * decides, installs the mapping and puts the packet back. But only peers that somebody here has spoken to
 * are worth a question; all others get nothing in.
 */
static __always_inline int flow_to_inside(struct packet *p)
{
	int was_held = is_reinjected(p);
	struct mapping *mapping;
	struct flow_key key;
	int verdict;

	verdict = flow_name(p, TO_INSIDE, &key);
	if (verdict == NAME_OF_FIRST) {
		verdict = later_to_inside(p, &key);
		if (verdict != HOLD_OPEN)
			return verdict;
		verdict = flow_name(p, TO_INSIDE, &key);
	}
	if (verdict == NAME_NOT_OURS)
		return leave_to_stack(p, &key, was_held);
	if (verdict)
		return drop(verdict > 0 ? verdict : REASON_FRAGMENT_BEFORE_FIRST);
	mapping = bpf_map_lookup_elem(&mappings, &key);
	if (!mapping) {
		if (was_held)
			return drop(REASON_NO_CANDIDATE);
		if (p->protocol != IPPROTO_ESP && is_for_stack(&key))
			return leave_to_stack(p, &key, was_held);
		if (!bpf_map_lookup_elem(&peers, &key.peer))
			return drop(REASON_NO_CANDIDATE);
	}
	fragment_came(p, &key, FRAGMENT_KNOWN, was_held);
	if (!mapping || !(was_held || (mapping->flags & MAPPING_ACTIVE))) {
		verdict = hold(p, &key);
		if (verdict != HOLD_OPEN)
			return verdict;
		mapping = bpf_map_lookup_elem(&mappings, &key);
		if (!mapping)
			return drop(REASON_NO_CANDIDATE);
	}
	return deliver(p, &key, mapping, was_held);
}

SEC("tc")
int outside_ingress(struct __sk_buff *skb)
{
	struct packet p;

	if (!packet_open(&p, skb, 1))
		return PASS;
	if (skb->mark & p.config->mark_carried)
		return PASS; /* one of our own copies, which has its address already */
	if (!is_our_address(p.config, p.destination))
		return PASS;
	if (is_ours(&p, p.source))
		return flow_to_inside(&p);
	if (p.protocol == IPPROTO_ICMP)
		return icmp_error_to_inside(&p);
	return PASS;
}

#endif
