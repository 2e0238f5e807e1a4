/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From outside: before connection tracking, and before the stack knows of the packet. */
#ifndef THROUGHWAY_OUTSIDE_INGRESS_H
#define THROUGHWAY_OUTSIDE_INGRESS_H

#include "hold.h"

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
	struct fan_out copy = *list; /* a verdict may change the list while we walk it */
	__be32 host = 0;
	long failed;

	mark_set(p, p->config->mark_carried);
	for (__u32 i = 0; i < FAN_OUT_MAX && i < copy.count; i++) {
		host = copy.hosts[i];
		if (destination_replace(p, host ? host : p->config->outside_address))
			return drop(REASON_REWRITE_FAILED);
		if (i + 1 >= copy.count || i + 1 == FAN_OUT_MAX)
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

	mapping_count(p, mapping);
	if (mapping->flags & MAPPING_FAN_OUT)
		list = bpf_map_lookup_elem(&fan_outs, key);
	if (list)
		return deliver_to_all(p, key, list, was_held);
	if (!mapping->host)
		return deliver_to_router(p, key, was_held);
	return deliver_to_host(p, mapping->host, was_held);
}

/* ESP to the inside: find the host that owns this SPI.
 *
 * A miss is not an error: the first packet of a new SA always misses and goes to the daemon, which
 * decides, installs the mapping and puts the packet back. But only peers that somebody here has spoken to
 * are worth a question; all others get nothing in.
 */
static __always_inline int esp_to_inside(struct packet *p)
{
	int was_held = is_reinjected(p);
	struct mapping *mapping;
	struct flow_key key;
	int verdict;

	verdict = esp_flow(p, TO_INSIDE, &key);
	if (verdict)
		return drop(verdict);
	mapping = bpf_map_lookup_elem(&mappings, &key);
	if (!mapping && (was_held || !bpf_map_lookup_elem(&peers, &key.peer)))
		return drop(REASON_NO_CANDIDATE);
	fragment_remember(p, &key);
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

/* Which ICMP messages quote a packet of ours that something on the way did not like (RFC 792).
 *
 * Source quench (4) is deprecated by RFC 6633, but harmless, and a host may still want to see it.
 */
static __always_inline int is_icmp_error(__u8 type)
{
	return type == ICMP_UNREACHABLE || type == ICMP_QUENCH || type == ICMP_TIME_EXCEEDED ||
	       type == ICMP_PARAMETER_PROBLEM;
}

/* Find the host whose packet an ICMP error quotes. Routers need quote no more than the IP header and eight
 * bytes behind it (RFC 792), which is all of the ESP header.
 *
 *   +-----------+-----------------+--------------------------+------------+- - -
 *   | IP header | ICMP header (8) | IP header that we sent   | SPI, seq.  |
 *   |           | type code csum  | source: our address      |            |
 *   +-----------+-----------------+--------------------------+------------+- - -
 */
static __always_inline __be32 *quoted_sender(const struct packet *p, struct iphdr *quoted)
{
	struct sender_key sender = { .protocol = IPPROTO_ESP };
	struct icmp_header icmp;
	struct esp_header esp;

	if (p->fragment_offset || p->more_fragments)
		return NULL;
	if (payload_read(p, 0, &icmp, sizeof(icmp)) || !is_icmp_error(icmp.type))
		return NULL;
	if (payload_read(p, sizeof(icmp), quoted, sizeof(*quoted)))
		return NULL;
	if (quoted->version != 4 || quoted->ihl < 5)
		return NULL;
	if (quoted->protocol != IPPROTO_ESP || quoted->saddr != p->config->outside_address)
		return NULL;
	if (quoted->frag_off & bpf_htons(IP_FRAGMENT_OFFSET))
		return NULL; /* a later fragment quotes no SPI */
	if (payload_read(p, sizeof(icmp) + quoted->ihl * 4, &esp, sizeof(esp)))
		return NULL;
	sender.peer = quoted->daddr;
	sender.discriminator = bpf_ntohl(esp.spi);
	return bpf_map_lookup_elem(&senders, &sender);
}

/* An ICMP error about a packet that we translated goes to the host that sent it, with the quoted packet
 * as the host knows it. All others are the stack's.
 */
static __always_inline int icmp_error_to_inside(struct packet *p)
{
	__u32 at = p->header_size + sizeof(struct icmp_header);
	struct iphdr quoted;
	__be32 *sender = quoted_sender(p, &quoted);
	__be32 host;

	if (!sender)
		return PASS;
	host = *sender;
	if (address_replace(p, at, offsetof(struct iphdr, saddr), quoted.saddr, host) || destination_replace(p, host))
		return drop(REASON_REWRITE_FAILED);
	mark_set(p, p->config->mark_carried);
	count(REASON_ICMP_ERROR_TRANSLATED);
	return PASS;
}

SEC("tc")
int outside_ingress(struct __sk_buff *skb)
{
	struct packet p;

	if (!packet_open(&p, skb, 1))
		return PASS;
	if (skb->mark & p.config->mark_carried)
		return PASS; /* one of our own copies, which has its address already */
	if (!p.config->outside_address || p.destination != p.config->outside_address)
		return PASS;
	if (p.protocol == IPPROTO_ESP)
		return esp_to_inside(&p);
	if (p.protocol == IPPROTO_ICMP)
		return icmp_error_to_inside(&p);
	return PASS;
}

#endif
