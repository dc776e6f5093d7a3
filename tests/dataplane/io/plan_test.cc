#include "dataplane/io/plan.h"

#include <gtest/gtest.h>

namespace guideway {
namespace {

TEST(DeviceName, Parts) {
  const DeviceName tap("net_tap0,iface=gw-uplink,remote=eth1");
  EXPECT_EQ(tap.name, "net_tap0");
  EXPECT_EQ(tap.Argument("iface"), "gw-uplink");
  EXPECT_EQ(tap.Argument("mac"), std::nullopt);
  EXPECT_TRUE(tap.IsDriver("net_tap"));
  EXPECT_FALSE(tap.is_pci);
  EXPECT_EQ(DeviceName("net_pcap0,rx_pcap=a,rx_pcap=b").CountArguments("rx_pcap"), 2u);
}

TEST(DeviceName, PciAddresses) {
  for (const char* yes : {"0000:3b:00.0", "3b:00.1", "10de:AF:1f.7", "0000:3b:00.0,rx_vec=1"}) {
    EXPECT_TRUE(DeviceName(yes).is_pci) << yes;
    EXPECT_EQ(DeviceName(yes).name.size(), 12u) << "as DPDK names the port";
  }
  EXPECT_EQ(DeviceName("3B:00.1,rx_vec=1").name, "0000:3b:00.1");
  for (const char* no :
       {"net_tap0", "0000:3b:00", "0000:3g:00.0", "0000-3b-00.0", "", ":3b:00.0"}) {
    EXPECT_FALSE(DeviceName(no).is_pci) << no;
  }
}

TEST(FactsByName, Rows) {
  using Rx = DeviceFacts::RxQueues;
  struct Row {
    const char* device;
    bool is_virtual, can_spread;
    Rx rx;
    uint16_t max_rx, max_tx;
  };
  for (const Row& row : {
           Row{"0000:3b:00.0", false, true, Rx::kOne, 64, 64},
           Row{"net_tap0,iface=x", true, false, Rx::kLikeTx, 16, 16},
           Row{"net_af_packet0,iface=x", true, false, Rx::kAll, 1, 1},
           Row{"net_af_packet0,iface=x,qpairs=4", true, false, Rx::kAll, 4, 4},
           Row{"net_af_packet0,iface=x,qpairs=no", true, false, Rx::kAll, 1, 1},
           Row{"net_af_xdp0,iface=x,queue_count=2", true, false, Rx::kAll, 2, 2},
           Row{"net_pcap0,rx_pcap=a,rx_pcap=b,tx_pcap=c", true, false, Rx::kAll, 2, 1},
           Row{"net_null0", true, false, Rx::kOne, 1024, 1024},
           Row{"net_ring0", true, false, Rx::kOne, 16, 16},
           Row{"net_virtio_user0", true, false, Rx::kOne, 1, 1},
       }) {
    const DeviceFacts facts = FactsByName(DeviceName(row.device));
    EXPECT_EQ(facts.is_virtual, row.is_virtual) << row.device;
    EXPECT_EQ(facts.can_spread, row.can_spread) << row.device;
    EXPECT_EQ(facts.rx_queues, row.rx) << row.device;
    EXPECT_EQ(facts.max_rx_queues, row.max_rx) << row.device;
    EXPECT_EQ(facts.max_tx_queues, row.max_tx) << row.device;
  }
}

TEST(PlanPools, OnePoolForEachNodeWithRoomForTheLargestFrame) {
  Plan plan;
  plan.workers.resize(2);
  plan.interfaces = {{.name = "a", .mtu = 1500, .rx_queues = 2, .tx_queues = 2, .numa_node = 0},
                     {.name = "b", .mtu = 9000, .rx_queues = 2, .tx_queues = 2, .numa_node = 1},
                     {.name = "c", .mtu = 576, .rx_queues = 1, .tx_queues = 2, .numa_node = 1}};
  const std::vector<PoolPlan> pools = PlanPools(plan);
  ASSERT_EQ(pools.size(), 2u);
  EXPECT_EQ(pools[0].numa_node, 0);
  EXPECT_EQ(pools[0].room, pools[1].room) << "a worker copies frames of either";
  EXPECT_GE(pools[1].room, 128u + 9000u + 26u);
  EXPECT_GT(pools[1].buffers, pools[0].buffers);
  // Every ring full: 2 RX queues and 6 TX queues.
  EXPECT_GE(pools[0].buffers, 8u * 1024u);
}

}  // namespace
}  // namespace guideway
