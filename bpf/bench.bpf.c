/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The two ends of the bench: a generator and a counting sink. No gateway ever loads this.
 *
 *   generator   runs by BPF_PROG_TEST_RUN on live frames (since Linux 5.18): writes the next frame of the plan
 *               and sends it out of an interface of the namespace that asked for the run
 *   sink        takes ESP off the interface at the far end: counts it, keeps every so manieth frame to be compared,
 *               and notes how long a stamped one was on its way
 *   beginner    begins flows of TCP and UDP, which the sink answers (beginnings.h)
 *
 * A frame, 64 bytes; numbers in network order but for the stamp:
 *
 *   0          14         34      38        42       50                      62    64
 *   +----------+----------+-------+---------+--------+-----------------------+-----+
 *   | Ethernet | IPv4     | SPI   | sequence| stamp  | sequence * 0x9e3779b1 | 2 b |
 *   |          |          |       |         | or 0   | three times           |     |
 *   +----------+----------+-------+---------+--------+-----------------------+-----+
 *
 * src/throughway/bench/frames.py says the same in Python, and is what received frames are compared with.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "beginnings.h"

#define FRAME_SIZE 64
#define SAMPLES_MAX 256
#define LATENCIES_MAX 16384

#define VARY_SOURCE 1u      /* the address grows with the pair */
#define VARY_DESTINATION 2u
#define IN_ORDER 4u         /* one SPI after the other; else scattered over all of them */
#define STAMP 8u            /* each frame says when it was sent */

struct frame {
	struct ethhdr link;
	struct iphdr ip;
	__be32 spi;
	__be32 sequence;
	__u64 stamp_ns; /* CLOCK_MONOTONIC, in the machine's order */
	__be32 words[3];
	__u8 end[2];
} __attribute__((packed));

_Static_assert(sizeof(struct frame) == FRAME_SIZE, "frame");

/* What the generator sends. The IP checksum of the template is that of its addresses. */
struct plan {
	struct frame template;
	__u32 ifindex;
	__u32 first_spi;
	__u32 spis;  /* so many SPIs from the first one on */
	__u32 pairs; /* of a host and a peer: SPI number n belongs to pair n % pairs */
	__u32 flags;
	__u32 next;  /* the sequence number of the next frame */
};

struct sample {
	__u32 used;
	__u8 frame[FRAME_SIZE];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct plan);
} plans SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} received SEC(".maps");

/* Every frame whose sequence number has none of the bits of the mask is kept. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u32);
} sample_masks SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SAMPLES_MAX);
	__type(key, __u32);
	__type(value, struct sample);
} samples SEC(".maps");

/* By sequence number, in nanoseconds; 0 where nothing came. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, LATENCIES_MAX);
	__type(key, __u32);
	__type(value, __u64);
} latencies SEC(".maps");

/* Add to an address, and to the header's checksum what it loses by that (RFC 1624 section 3, equation 3). */
static __always_inline void address_add(struct iphdr *ip, __be32 *address, __u32 more)
{
	__u32 before = bpf_ntohl(*address);
	__u32 after = before + more;
	__u32 sum = (__u16)~bpf_ntohs(ip->check);

	sum += (__u16)~(before >> 16) + (__u16)~before + (after >> 16) + (after & 0xffff);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	ip->check = bpf_htons((__u16)~sum);
	*address = bpf_htonl(after);
}

SEC("xdp")
int generator(struct xdp_md *context)
{
	void *end = (void *)(long)context->data_end;
	struct frame *frame = (void *)(long)context->data;
	__u32 zero = 0, sequence, number, pair;
	struct plan *plan = bpf_map_lookup_elem(&plans, &zero);

	if (!plan || (void *)(frame + 1) > end || !plan->spis || !plan->pairs)
		return XDP_ABORTED;
	sequence = plan->next++;
	if (plan->flags & IN_ORDER)
		number = sequence % plan->spis;
	else
		number = (__u64)(__u32)(sequence * 0x9e3779b1u) * plan->spis >> 32;
	pair = number % plan->pairs;
	/* The page may be one that an earlier frame went through the router in, so all of it is written. */
	__builtin_memcpy(frame, &plan->template, sizeof(*frame));
	if (plan->flags & VARY_SOURCE)
		address_add(&frame->ip, &frame->ip.saddr, pair);
	if (plan->flags & VARY_DESTINATION)
		address_add(&frame->ip, &frame->ip.daddr, pair);
	frame->spi = bpf_htonl(plan->first_spi + number);
	frame->sequence = bpf_htonl(sequence);
	for (int i = 0; i < 3; i++)
		frame->words[i] = bpf_htonl(sequence * 0x9e3779b1u);
	if (plan->flags & STAMP)
		frame->stamp_ns = bpf_ktime_get_ns();
	return bpf_redirect(plan->ifindex, 0);
}

static __always_inline void sample_keep(const struct frame *frame, __u32 sequence)
{
	__u32 zero = 0, *mask = bpf_map_lookup_elem(&sample_masks, &zero), slot;
	struct sample *sample;

	if (!mask || sequence & *mask)
		return;
	slot = sequence / (*mask + 1) % SAMPLES_MAX;
	sample = bpf_map_lookup_elem(&samples, &slot);
	if (!sample)
		return;
	__builtin_memcpy(sample->frame, frame, FRAME_SIZE);
	sample->used = 1;
}

SEC("xdp")
int sink(struct xdp_md *context)
{
	void *end = (void *)(long)context->data_end;
	struct frame *frame = (void *)(long)context->data;
	__u32 zero = 0, sequence, slot;
	__u64 *counter, *latency;

	if ((void *)(frame + 1) > end || frame->link.h_proto != bpf_htons(ETH_P_IP) || frame->ip.protocol != IPPROTO_ESP)
		return converse(context);
	counter = bpf_map_lookup_elem(&received, &zero);
	if (counter)
		(*counter)++;
	sequence = bpf_ntohl(frame->sequence);
	sample_keep(frame, sequence);
	if (frame->stamp_ns) {
		slot = sequence % LATENCIES_MAX;
		latency = bpf_map_lookup_elem(&latencies, &slot);
		if (latency)
			*latency = bpf_ktime_get_ns() - frame->stamp_ns;
	}
	return XDP_DROP;
}

char LICENSE[] SEC("license") = "GPL";
