/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Flows that begin: a device asks twice, and a peer answers each time. For the bench alone.
 *
 * What is said is in `talks`, whole IP packets without addresses of their own, by the number in their IP ID:
 *
 *   15        14         13 ...             1     0
 *   +--------+----------+------------------+------+
 *   | answer | question | kind of flow     | step |
 *   +--------+----------+------------------+------+
 *
 * Each flow has a host and a peer of a pair, and a port, that no other flow has for millions of flows. Where a packet has
 * a mark, the flow's own number stands there, in the answer too.
 */
#ifndef THROUGHWAY_BEGINNINGS_H
#define THROUGHWAY_BEGINNINGS_H

#include <stddef.h>
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/tcp.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define TALK_SIZE_MAX 512
#define TALKS_MAX 128
#define IS_ANSWER 0x8000
#define IS_QUESTION 0x4000
#define TALK_MASK 0x3fff
#define FLOW_PORTS 60000
#define FLOW_PORT_FIRST 1024

/* One packet. `mark_at` is behind the beginning of the IP header, 0 for none. */
struct said {
	__u16 size;
	__u16 mark_at;
	__u16 mark_size;
	__u16 zero16;
	__u8 packet[TALK_SIZE_MAX];
};

struct talk {
	struct said question;
	struct said answer;
};

/* Which flows begin. Of every `vpn_every` one is a VPN's; kinds of VPNs come before the others in `talks`. */
struct beginning {
	struct ethhdr link;
	__u16 step;
	__u32 ifindex;
	__u32 next; /* the number of the next flow */
	__u32 vpn_every;
	__u32 vpn_kinds;
	__u32 other_kinds;
	__u32 pairs;
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, TALKS_MAX);
	__type(key, __u32);
	__type(value, struct talk);
} talks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct beginning);
} beginnings SEC(".maps");

/* Questions that came to the peer, and answers that came back. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 2);
	__type(key, __u32);
	__type(value, __u64);
} heard SEC(".maps");

struct said_headers {
	struct ethhdr link;
	struct iphdr ip;
	struct tcphdr l4; /* of UDP only the ports are used */
} __attribute__((packed));

/* Take a 32-bit word of a sum out and another one in (RFC 1624 section 3, equation 3). */
static __always_inline void sum_replace(__u16 *check, __be32 from, __be32 to)
{
	__u32 sum = (__u16)~*check;

	sum += (__u16)~from + (__u16)~(from >> 16) + (__u16)to + (to >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	*check = (__u16)~sum;
}

static __always_inline void hear(__u32 what)
{
	__u64 *counter = bpf_map_lookup_elem(&heard, &what);

	if (counter)
		(*counter)++;
}

/* Make the frame what is said: its size, its bytes behind the link header, and the mark. False if there is no room. */
static __always_inline int say(struct xdp_md *context, const struct said *said, __u32 mark)
{
	__u32 size = said->size, mark_size = said->mark_size;
	int now = bpf_xdp_get_buff_len(context);

	barrier_var(size);
	barrier_var(mark_size);
	if (size < sizeof(struct iphdr) + sizeof(struct tcphdr) || size > TALK_SIZE_MAX)
		return 0;
	if (bpf_xdp_adjust_tail(context, (int)(ETH_HLEN + size) - now))
		return 0;
	if (bpf_xdp_store_bytes(context, ETH_HLEN, (void *)said->packet, size))
		return 0;
	if (!said->mark_at || mark_size == 0 || mark_size > sizeof(mark))
		return 1;
	return !bpf_xdp_store_bytes(context, ETH_HLEN + said->mark_at, &mark, mark_size);
}

/* Write the addresses and the port that are the flow's own in the place of those of the template. */
static __always_inline int address(struct xdp_md *context, __be32 from, __be32 to, __be16 port, int is_source)
{
	struct said_headers *headers = (void *)(long)context->data;
	struct iphdr *ip = &headers->ip;
	__be16 *at;

	if ((void *)(headers + 1) > (void *)(long)context->data_end)
		return 0;
	sum_replace(&ip->check, ip->saddr, from);
	sum_replace(&ip->check, ip->daddr, to);
	at = is_source ? &headers->l4.source : &headers->l4.dest;
	if (ip->protocol == IPPROTO_TCP) {
		sum_replace(&headers->l4.check, ip->saddr, from);
		sum_replace(&headers->l4.check, ip->daddr, to);
		sum_replace(&headers->l4.check, *at, port);
	}
	ip->saddr = from;
	ip->daddr = to;
	*at = port;
	return 1;
}

/* Send the next flow's question of the present step. */
SEC("xdp")
int beginner(struct xdp_md *context)
{
	struct said_headers *headers = (void *)(long)context->data;
	__u32 zero = 0, number, pair, kind, at;
	struct beginning *plan = bpf_map_lookup_elem(&beginnings, &zero);
	struct talk *talk;
	__be32 from, to;

	if (!plan || !plan->pairs || !plan->vpn_every || !plan->vpn_kinds || !plan->other_kinds)
		return XDP_ABORTED;
	number = plan->next++;
	pair = number % plan->pairs;
	if (number % plan->vpn_every)
		kind = plan->vpn_kinds + (number * 0x9e3779b1u >> 16) % plan->other_kinds;
	else
		kind = number / plan->vpn_every % plan->vpn_kinds;
	at = 2 * kind + (plan->step & 1);
	talk = bpf_map_lookup_elem(&talks, &at);
	if (!talk || (void *)(headers + 1) > (void *)(long)context->data_end)
		return XDP_ABORTED;
	headers->link = plan->link;
	if (!say(context, &talk->question, number * 0x9e3779b1u))
		return XDP_ABORTED;
	from = ((struct iphdr *)talk->question.packet)->saddr;
	to = ((struct iphdr *)talk->question.packet)->daddr;
	if (!address(context, bpf_htonl(bpf_ntohl(from) + pair), bpf_htonl(bpf_ntohl(to) + pair),
		     bpf_htons(FLOW_PORT_FIRST + number / plan->pairs % FLOW_PORTS), 1))
		return XDP_ABORTED;
	return bpf_redirect(plan->ifindex, 0);
}

/* Answer a question, or take an answer. XDP_PASS for what is neither. */
static __always_inline int converse(struct xdp_md *context)
{
	struct said_headers *headers = (void *)(long)context->data;
	__u8 hardware[ETH_ALEN];
	struct talk *talk;
	__u32 at, mark = 0;
	__be32 from, to;
	__be16 port;

	if ((void *)(headers + 1) > (void *)(long)context->data_end || headers->link.h_proto != bpf_htons(ETH_P_IP))
		return XDP_PASS;
	if (headers->ip.protocol != IPPROTO_UDP && headers->ip.protocol != IPPROTO_TCP)
		return XDP_PASS;
	at = bpf_ntohs(headers->ip.id);
	if (at & IS_ANSWER) {
		hear(1);
		return XDP_DROP;
	}
	if (!(at & IS_QUESTION))
		return XDP_PASS;
	at &= TALK_MASK;
	talk = bpf_map_lookup_elem(&talks, &at);
	if (!talk)
		return XDP_PASS;
	hear(0);
	from = headers->ip.daddr;
	to = headers->ip.saddr;
	port = headers->l4.source;
	__builtin_memcpy(hardware, headers->link.h_source, ETH_ALEN);
	__builtin_memcpy(headers->link.h_source, headers->link.h_dest, ETH_ALEN);
	__builtin_memcpy(headers->link.h_dest, hardware, ETH_ALEN);
	if (talk->question.mark_at && bpf_xdp_load_bytes(context, ETH_HLEN + talk->question.mark_at, &mark, sizeof(mark)))
		return XDP_DROP;
	if (!say(context, &talk->answer, mark) || !address(context, from, to, port, 0))
		return XDP_DROP;
	/* XDP_TX would ask virtual Ethernet for a program at the other end too. */
	return bpf_redirect(context->ingress_ifindex, 0);
}

#endif
