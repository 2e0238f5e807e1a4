/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The short path: a packet of a known flow is routed here and sent out at once, without the stack's forwarding.
 *
 *   to the peer     inside_ingress  -> redirect -> outside_egress, which lets it pass by its mark
 *   to the inside   outside_ingress -> redirect -> inside_egress
 *
 * It does what forwarding would do (RFC 1812 section 5.3.1: the TTL; the MTU; the route, by the kernel's own tables and
 * rules) or it does nothing, and the packet takes the long way: fragments, IP options, a TTL that ends, what is larger
 * than the MTU, what has no route, and UDP, whose checksum covers the addresses. Neighbours are the kernel's: it resolves, queues and probes as for its own packets.
 * Netfilter sees nothing of it, so the daemon allows it only while no rules but ours look at forwarded packets, and for
 * some seconds at a time.
 */
#ifndef THROUGHWAY_SHORT_PATH_H
#define THROUGHWAY_SHORT_PATH_H

#include "rewrite.h"

#define FAMILY_IPV4 2 /* AF_INET, which the headers of BPF programs do not name */

/* Whether the stack would forward this packet, for all that its own header tells. */
static __always_inline int may_go_short(const struct packet *p)
{
	return bpf_ktime_get_coarse_ns() < p->config->short_until_ns && p->config->link_header_size == ETH_HLEN &&
	       p->skb->pkt_type == PACKET_HOST && p->protocol != IPPROTO_UDP &&
	       p->header_size == sizeof(struct iphdr) && !p->more_fragments && !p->fragment_offset && p->skb->gso_segs <= 1 &&
	       !(p->skb->mark & p->config->mark_mask);
}

/* Find the next hop of a packet with these addresses. False where the stack has to see to it. */
static __always_inline int route_find(const struct packet *p, __be32 destination, struct bpf_fib_lookup *route)
{
	long answer;

	*route = (struct bpf_fib_lookup){
		.family = FAMILY_IPV4,
		.l4_protocol = p->protocol,
		.tot_len = p->size,
		.ifindex = p->skb->ifindex,
		.ipv4_src = p->source,
		.ipv4_dst = destination,
	};
	answer = bpf_fib_lookup(p->skb, route, sizeof(*route), 0);
	return answer == BPF_FIB_LKUP_RET_SUCCESS || answer == BPF_FIB_LKUP_RET_NO_NEIGH;
}

static __always_inline __u32 sum_add(__u32 sum, __be32 word)
{
	return sum + (word & 0xffff) + (word >> 16);
}

/* Write one address and the TTL less one, straight into the packet. The checksum follows by RFC 1624 section 3,
 * equation 3, whose sums are the same in either byte order. False where nothing was written.
 */
static __always_inline int header_rewrite(const struct packet *p, __u32 link_size, int is_source, __be32 to)
{
	void *data = (void *)(long)p->skb->data;
	void *end = (void *)(long)p->skb->data_end;
	struct iphdr *ip = data + link_size;
	__be32 from = is_source ? p->source : p->destination;
	__u32 sum;

	if ((void *)(ip + 1) > end || ip->ttl <= 1)
		return 0;
	/* Of an inside interface nobody told what link header it has. */
	if (ip->saddr != p->source || ip->daddr != p->destination || ip->id != p->id)
		return 0;
	sum = sum_add((__u16)~ip->check, ~from);
	sum = sum_add(sum, to);
	sum = sum_add(sum, (__u16)~bpf_htons(0x0100)); /* the TTL is the upper half of its word */
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	ip->check = (__u16)~sum;
	ip->ttl--;
	if (is_source)
		ip->saddr = to;
	else
		ip->daddr = to;
	return 1;
}

static __always_inline int send_to(const struct bpf_fib_lookup *route)
{
	struct bpf_redir_neigh next = { .nh_family = FAMILY_IPV4, .ipv4_nh = route->ipv4_dst };

	return bpf_redirect_neigh(route->ifindex, &next, sizeof(next), 0);
}

/* Give a packet of a known flow to its host. PASS: nothing was done, and it takes the long way. */
static __always_inline int short_to_host(const struct packet *p, struct mapping *mapping, __be32 host)
{
	struct bpf_fib_lookup route;

	if (!may_go_short(p) || !route_find(p, host, &route))
		return PASS;
	if (route.ifindex == p->config->outside_ifindex || !header_rewrite(p, ETH_HLEN, 0, host))
		return PASS;
	mapping_count(p, mapping);
	mark_set(p, p->config->mark_carried);
	count(REASON_TRANSLATED_TO_INSIDE);
	return send_to(&route);
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
	if (!mapping || !(mapping->flags & MAPPING_ACTIVE))
		return PASS;
	ours = p->config->slot_count ? address_of(p->config, mapping->slot) : 0;
	if (!ours || !route_find(p, p->destination, &route))
		return PASS;
	if (route.ifindex != p->config->outside_ifindex || !header_rewrite(p, ETH_HLEN, 1, ours))
		return PASS;
	mapping_count(p, mapping);
	mark_set(p, p->config->mark_carried);
	count(REASON_TRANSLATED_TO_PEER);
	return send_to(&route);
}

#endif
