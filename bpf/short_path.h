/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The short path: a packet of a known flow is routed here and sent out at once, without the stack's forwarding.
 *
 *   to the peer     inside_ingress  -> redirect -> outside_egress, which lets it pass by its mark
 *   to the inside   outside_ingress -> redirect -> inside_egress
 *
 * It does what forwarding would do, or it does nothing, and the packet takes the long way. What forwarding looks at:
 *
 *   the IP header: version, length, checksum, TTL (RFC 1812 sections 5.2.2, 5.3.1)    whole and right, or the long way
 *   UDP, whose checksum covers the addresses                                         the long way
 *   fragments, IP options, segments still to be cut, padding, a priority tag, a mark  the long way
 *   the route, by the kernel's own tables and rules; the MTU                          looked up
 *   whether the source may come in here, with reverse path filtering                  only if its route leads back here
 *   the neighbour                                                                     resolved, or the long way
 *   the interface that it leaves by                                                   one of ours, or the long way
 *   the queue that its TOS asks for                                                   set
 *
 * What a mapping says: a fan-out needs copies, and a traced flow has its times noted on the long way.
 *
 * What only the daemon can know (who else looks at packets: netfilter, tc, IPsec policies) keeps it from allowing
 * the short path at all; it does so for some seconds at a time.
 */
#ifndef THROUGHWAY_SHORT_PATH_H
#define THROUGHWAY_SHORT_PATH_H

#include "rewrite.h"

#define FAMILY_IPV4 2 /* AF_INET, which the headers of BPF programs do not name */
#define LOOPBACK_INDEX 1 /* of every network namespace */

/* Whether the stack would forward this packet, for all that it can be told without looking anything up. */
static __always_inline int may_go_short(const struct packet *p)
{
	const struct __sk_buff *skb = p->skb;

	return bpf_ktime_get_coarse_ns() < p->config->short_until_ns && p->config->link_header_size == ETH_HLEN &&
	       skb->pkt_type == PACKET_HOST && !skb->vlan_present && !skb->mark && !skb->gso_size &&
	       p->protocol != IPPROTO_UDP && skb->len == ETH_HLEN + p->size &&
	       p->header_size == sizeof(struct iphdr) && !p->more_fragments && !p->fragment_offset;
}

/* Find the next hop to an address, for packets of this size (0: any) that came in by an interface. BPF_FIB_LKUP_RET_*,
 * or less than 0.
 */
static __always_inline long route_find(const struct packet *p, __u32 came_by, __be32 from, __be32 to, __u16 size,
		struct bpf_fib_lookup *route)
{
	*route = (struct bpf_fib_lookup){
		.family = FAMILY_IPV4,
		.l4_protocol = p->protocol,
		.tot_len = size,
		.tos = p->tos,
		.ifindex = came_by,
		.ipv4_src = from,
		.ipv4_dst = to,
	};
	return bpf_fib_lookup(p->skb, route, sizeof(*route), 0);
}

/* Find the way of a packet to `to`. False where the stack has to see to it: it resolves neighbours, and says so when
 * there is none. The source passes every kind of reverse path filtering if its own route leads back to where it came
 * from (RFC 3704 section 2.2); the kernel asks for that route as if for a packet of its own.
 */
static __always_inline int way_find(const struct packet *p, __be32 to, struct bpf_fib_lookup *route)
{
	long answer;

	if (p->config->check_source) {
		answer = route_find(p, LOOPBACK_INDEX, to, p->source, 0, route);
		if (answer != BPF_FIB_LKUP_RET_SUCCESS && answer != BPF_FIB_LKUP_RET_NO_NEIGH)
			return 0;
		if (route->ifindex != p->skb->ifindex)
			return 0;
	}
	answer = route_find(p, p->skb->ifindex, p->source, to, p->size, route);
	/* The next hop may be one of IPv6. */
	return answer == BPF_FIB_LKUP_RET_SUCCESS && route->family == FAMILY_IPV4;
}

/* Not static: the verifier then looks at it once. */
__noinline int is_inside(const struct config *config, __u32 ifindex)
{
	if (!config || !ifindex)
		return 0;
	for (__u32 i = 0; i < SHORT_INSIDES_MAX; i++) {
		if (config->insides[i] == ifindex)
			return 1;
	}
	return 0;
}

/* The sum of RFC 1071, of 32 bits in either byte order, not yet folded. */
static __always_inline __u32 sum_add(__u32 sum, __be32 word)
{
	return sum + (word & 0xffff) + (word >> 16);
}

static __always_inline __u16 sum_fold(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	return (sum & 0xffff) + (sum >> 16);
}

/* Write one address and the TTL less one, straight into the packet. The checksum follows by RFC 1624 section 3,
 * equation 3, whose sums are the same in either byte order. False where nothing was written.
 */
static __always_inline int header_rewrite(const struct packet *p, int is_source, __be32 to)
{
	void *data = (void *)(long)p->skb->data;
	void *end = (void *)(long)p->skb->data_end;
	struct iphdr *ip = data + ETH_HLEN;
	__be32 from = is_source ? p->source : p->destination;
	__u32 sum = 0;

	if ((void *)(ip + 1) > end || ip->ttl <= 1)
		return 0;
	/* Of an inside interface nobody told what link header it has. */
	if (ip->saddr != p->source || ip->daddr != p->destination || ip->id != p->id)
		return 0;
	for (__u32 i = 0; i < sizeof(*ip) / sizeof(__be16); i++)
		sum += ((__be16 *)ip)[i];
	if (sum_fold(sum) != 0xffff)
		return 0;
	sum = sum_add((__u16)~ip->check, ~from);
	sum = sum_add(sum, to);
	sum = sum_add(sum, (__u16)~bpf_htons(0x0100)); /* the TTL is the upper half of its word */
	ip->check = (__u16)~sum_fold(sum);
	ip->ttl--;
	if (is_source)
		ip->saddr = to;
	else
		ip->daddr = to;
	return 1;
}

/* The priority that forwarding gives a packet for the queues of the interface, by the TOS of RFC 1349: 0 best effort,
 * 2 bulk, 6 interactive, 4 both (rt_tos2priority of the kernel).
 */
static __always_inline __u32 priority_of(__u8 tos)
{
	__u32 wish = (tos >> 3) & 3;

	return wish == 3 ? 4 : wish == 2 ? 6 : wish * 2;
}

/* Send it. What comes to the egress program by its mark was counted here. */
static __always_inline int send_to(const struct packet *p, const struct bpf_fib_lookup *route,
		struct mapping *mapping, enum reason reason)
{
	struct bpf_redir_neigh next = { .nh_family = FAMILY_IPV4, .ipv4_nh = route->ipv4_dst };

	mapping_count(p, mapping);
	mark_set(p, p->config->mark_carried);
	p->skb->priority = priority_of(p->tos);
	count(reason);
	return bpf_redirect_neigh(route->ifindex, &next, sizeof(next), 0);
}

/* Give a packet of a known flow to its host. PASS: nothing was done, and it takes the long way. */
static __always_inline int short_to_host(const struct packet *p, struct mapping *mapping, __be32 host)
{
	struct bpf_fib_lookup route;

	if (!may_go_short(p) || !way_find(p, host, &route) || !is_inside(p->config, route.ifindex))
		return PASS;
	if (!header_rewrite(p, 0, host))
		return PASS;
	return send_to(p, &route, mapping, REASON_TRANSLATED_TO_INSIDE);
}

/* Send a packet of a known flow to its peer, which only the outside interface leads to. PASS as above. */
static __always_inline int short_to_peer(const struct packet *p)
{
	struct bpf_fib_lookup route;
	struct mapping *mapping;
	struct flow_key key;
	__be32 ours;

	if (!may_go_short(p) || flow_name(p, TO_PEER, &key))
		return PASS;
	mapping = bpf_map_lookup_elem(&mappings, &key);
	if (!mapping || !(mapping->flags & MAPPING_ACTIVE) || mapping->flags & MAPPING_TRACED)
		return PASS;
	ours = p->config->slot_count ? address_of(p->config, mapping->slot) : 0;
	if (!ours || !way_find(p, p->destination, &route) || route.ifindex != p->config->outside_ifindex)
		return PASS;
	if (!header_rewrite(p, 1, ours))
		return PASS;
	return send_to(p, &route, mapping, REASON_TRANSLATED_TO_PEER);
}

#endif
