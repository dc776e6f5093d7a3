#include "control/controller.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "control/api/api.pb.h"
#include "control/may_hang.h"
#include "control/metrics.h"
#include "tests/support/fake_dataplane.h"
#include "tests/support/fake_event_loop.h"
#include "tests/support/fake_prober.h"
#include "tests/support/test_config.h"

namespace guideway {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::MatchesRegex;
using testing::StartsWith;

constexpr char kAbc[] =
    "{ name: a, address: 10.0.0.1 }, { name: b, address: 10.0.0.2 }, { name: c, address: 10.0.0.3 "
    "}";
constexpr char kAb[] = "{ name: a, address: 10.0.0.1 }, { name: b, address: 10.0.0.2 }";
constexpr char kTcpCheck[] = "health_check: { tcp: {}, rise: 2, fall: 3 }";

class ControllerTest : public testing::Test {
 protected:
  ControllerTest() {
    std::string name = testing::TempDir() + "controller_test.XXXXXX";
    directory_ = mkdtemp(name.data());
    file_ = directory_ + "/guideway.yaml";
  }
  ~ControllerTest() override { std::filesystem::remove_all(directory_); }

  absl::Status Start(const std::string& text) {
    WriteFile(text);
    controller_.emplace(
        &loop_, &prober_, &dataplane_,
        Controller::Options{.config_file = file_,
                            .version = "test",
                            .can_start = [this](const LoadedConfig&) { return host_; }},
        LoadText(text));
    return controller_->Start();
  }
  // Started, and every backend has answered its first probe.
  void MustStart(const std::string& text) {
    ASSERT_EQ(Start(text), absl::OkStatus());
    loop_.Advance(absl::Milliseconds(10));
  }

  void WriteFile(const std::string& text) { std::ofstream(file_) << text; }

  // What came of a request; empty while nothing has.
  using Outcome = std::shared_ptr<std::optional<absl::Status>>;
  Outcome Apply(const std::string& text) {
    auto outcome = std::make_shared<std::optional<absl::Status>>();
    controller_->Apply(
        {"new.yaml", text, "somebody"},
        [outcome](absl::StatusOr<api::ApplyResult> result) { *outcome = result.status(); });
    return outcome;
  }
  // The same, if no more may move; what would change.
  using Planned = std::shared_ptr<std::optional<absl::StatusOr<api::Plan>>>;
  Outcome ApplyWithin(double max_moved, const std::string& text, api::ApplyResult* of = nullptr) {
    auto outcome = std::make_shared<std::optional<absl::Status>>();
    controller_->Apply({.name = "new.yaml", .text = text, .who = "alice", .max_moved = max_moved},
                       [outcome, of](absl::StatusOr<api::ApplyResult> result) {
                         *outcome = result.status();
                         if (result.ok() && of != nullptr) *of = *std::move(result);
                       });
    return outcome;
  }
  Planned Plan(const std::string& text) {
    auto planned = std::make_shared<std::optional<absl::StatusOr<api::Plan>>>();
    controller_->Plan({"new.yaml", text},
                      [planned](absl::StatusOr<api::Plan> plan) { *planned = std::move(plan); });
    return planned;
  }
  api::Plan MustPlan(const std::string& text) {
    const Planned planned = Plan(text);
    loop_.RunAll();
    EXPECT_EQ((*planned)->status(), absl::OkStatus());
    return planned->has_value() && (*planned)->ok() ? ***planned : api::Plan();
  }
  Outcome ByHand(void (Controller::*change)(Controller::BackendRequest, Controller::Done),
                 const std::string& service, const std::string& backend) {
    auto outcome = std::make_shared<std::optional<absl::Status>>();
    (*controller_.*change)({service, backend, "somebody"},
                           [outcome](const auto& result) { *outcome = result.status(); });
    return outcome;
  }

  // «up», «down», … by «service/backend».
  std::map<std::string, std::string> States() {
    std::map<std::string, std::string> states;
    const api::BackendList list = controller_->GetBackends();
    for (const api::Backend& b : list.backends()) {
      states[b.service() + "/" + b.name()] = b.state();
    }
    return states;
  }
  api::Backend Get(const std::string& service, const std::string& backend) {
    const api::BackendList list = controller_->GetBackends();
    for (const api::Backend& b : list.backends()) {
      if (b.service() == service && b.name() == backend) return b;
    }
    ADD_FAILURE() << "no " << service << "/" << backend;
    return {};
  }
  BackendState InSnapshot(size_t service, size_t member) {
    return dataplane_.snapshot().services()[service]->backends[member].state;
  }
  std::string LastEvent() {
    const api::Status status = controller_->GetStatus();
    return status.events().empty() ? "" : status.events().rbegin()->text();
  }

  FakeEventLoop loop_;
  FakeProber prober_{&loop_};
  FakeDataplane dataplane_;
  std::string directory_, file_;
  absl::Status host_;  // what it says of configurations that guidewayd would be started with
  std::optional<Controller> controller_;
};

TEST_F(ControllerTest, AtTheStartAllAreTakenForUpUntilTheyFail) {
  prober_.Fail("10.0.0.3", "connection refused");
  ASSERT_EQ(Start(ConfigText(ServiceText("web", 1, kAbc, kTcpCheck))), absl::OkStatus());
  ASSERT_EQ(dataplane_.published.size(), 1u);
  EXPECT_EQ(States()["web/a"], "up");
  EXPECT_EQ(InSnapshot(0, 2), BackendState::kUp) << "connections from before find their backend";
  EXPECT_EQ(Get("web", "a").health(), "") << "nobody has asked yet";

  loop_.Advance(absl::Milliseconds(10));
  EXPECT_EQ(States()["web/c"], "up") << "one failure is not three";
  loop_.Advance(absl::Seconds(4));
  EXPECT_EQ(States()["web/a"], "up");
  EXPECT_EQ(States()["web/c"], "down");
  EXPECT_EQ(Get("web", "c").health(), "connection refused");
  EXPECT_NEAR(Get("web", "a").share(), 0.5, 0.1);
  EXPECT_EQ(InSnapshot(0, 2), BackendState::kDown);
  const api::Service web = controller_->GetServices().services(0);
  EXPECT_EQ(web.backends(), 3u);
  EXPECT_EQ(web.backends_up(), 2u);
  EXPECT_EQ(controller_->GetStatus().revision(), 1u);
}

TEST_F(ControllerTest, WithoutAHealthCheckABackendIsUp) {
  MustStart(ConfigText(ServiceText("web", 1, kAb)));
  EXPECT_EQ(States()["web/a"], "up");
  EXPECT_EQ(dataplane_.published.size(), 1u);
  EXPECT_THAT(prober_.asked, IsEmpty());
}

TEST_F(ControllerTest, NothingWaitsForAFileThatIsRead) {
  MustStart(ConfigText(ServiceText("web", 1, kAb, kTcpCheck)));
  const auto applied = Apply(ConfigText(ServiceText("web", 1, kAbc, kTcpCheck)));
  const auto drained = ByHand(&Controller::Drain, "web", "a");
  ASSERT_EQ(loop_.helper_work(), 2u) << "the file and a Compile without it";
  loop_.BeginHelper(1);
  loop_.EndHelper();
  EXPECT_EQ(*drained, absl::OkStatus());
  EXPECT_EQ(States()["web/a"], "drain");
  EXPECT_FALSE(applied->has_value());
  loop_.RunAll();
  EXPECT_EQ(*applied, absl::OkStatus());
  EXPECT_EQ(States()["web/a"], "drain");
  EXPECT_EQ(States().count("web/c"), 1u);
}

TEST_F(ControllerTest, WhoAsksTheSamePresumesTheSame) {
  MustStart(ConfigText(ServiceText("web", 1, kAb)));
  prober_.silent = true;
  // Both are asked for the first time; of web's machine it is known that it served.
  const auto outcome =
      Apply(ConfigText(ServiceText("new", 2, "{ name: x, address: 10.0.0.1 }", kTcpCheck) +
                       ServiceText("web", 1, "{ name: a, address: 10.0.0.1 }", kTcpCheck)));
  loop_.RunAll();
  ASSERT_EQ(*outcome, absl::OkStatus());
  EXPECT_EQ(States()["web/a"], "up");
  EXPECT_EQ(States()["new/x"], "up");
}

TEST_F(ControllerTest, AHealthChangeIsPublishedAndLogged) {
  MustStart(ConfigText(ServiceText("web", 1, kAb, kTcpCheck)));
  prober_.Fail("10.0.0.2", "timeout after 500ms");
  loop_.Advance(absl::Seconds(4));
  EXPECT_EQ(States()["web/b"], "down");
  EXPECT_EQ(LastEvent(), "backend web/b down: timeout after 500ms");
  EXPECT_EQ(InSnapshot(0, 1), BackendState::kDown);
  prober_.Heal("10.0.0.2");
  loop_.Advance(absl::Seconds(4));
  EXPECT_EQ(States()["web/b"], "up");
  EXPECT_EQ(LastEvent(), "backend web/b up");
}

TEST_F(ControllerTest, WhoComesBackStartsSlowly) {
  const std::string more = absl::StrCat(kTcpCheck, ", slow_start: 9s");
  MustStart(ConfigText(ServiceText("web", 1, kAbc, more)));
  EXPECT_EQ(Get("web", "c").tenths(), 10u) << "at the start all take everything";
  prober_.Fail("10.0.0.3", "connection refused");
  loop_.Advance(absl::Seconds(4));
  ASSERT_EQ(States()["web/c"], "down");
  prober_.Heal("10.0.0.3");
  while (States()["web/c"] == "down") loop_.Advance(absl::Milliseconds(100));

  uint32_t tenths = 0;
  double share = 0;
  std::vector<uint32_t> steps;
  for (int ms = 0; ms < 10000; ms += 100) {
    const api::Backend c = Get("web", "c");
    EXPECT_GE(c.tenths(), tenths);
    if (c.tenths() > tenths) {
      EXPECT_GT(c.share(), share);
      EXPECT_NEAR(c.share(), 0.0333 * c.tenths(), 0.03);
      steps.push_back(c.tenths());
    }
    tenths = c.tenths();
    share = c.share();
    EXPECT_EQ(Get("web", "a").tenths(), 10u);
    loop_.Advance(absl::Milliseconds(100));
  }
  EXPECT_THAT(steps, ElementsAre(1, 2, 3, 4, 5, 6, 7, 8, 9, 10));
  const size_t published = dataplane_.published.size();
  loop_.Advance(absl::Minutes(1));
  EXPECT_EQ(dataplane_.published.size(), published) << "done, and quiet";
}

TEST_F(ControllerTest, OneProbeServesAllServicesThatAskTheSame) {
  MustStart(
      ConfigText(ServiceText("one", 1, kAb, kTcpCheck) + ServiceText("two", 2, kAb, kTcpCheck)));
  EXPECT_EQ(prober_.Count("10.0.0.1"), 1);
  prober_.Fail("10.0.0.1", "connection refused");
  loop_.Advance(absl::Seconds(4));
  EXPECT_EQ(States()["one/a"], "down");
  EXPECT_EQ(States()["two/a"], "down");
}

TEST_F(ControllerTest, WhatHappensDuringACompileGoesIntoTheNextOneTogether) {
  MustStart(ConfigText(ServiceText("web", 1, kAbc, kTcpCheck)));
  const size_t published = dataplane_.published.size();
  const Outcome a = ByHand(&Controller::Drain, "web", "a");
  ASSERT_EQ(loop_.helper_work(), 1u) << "a Compile is under way";
  const Outcome b = ByHand(&Controller::Drain, "web", "b");
  const Outcome c = ByHand(&Controller::Drain, "web", "c");
  const Outcome c_again = ByHand(&Controller::Undrain, "web", "c");
  loop_.Run();
  EXPECT_EQ(loop_.helper_work(), 1u);
  EXPECT_FALSE(a->has_value()) << "answered only when published";

  loop_.RunHelper();
  EXPECT_EQ(dataplane_.published.size(), published + 1);
  EXPECT_EQ(*a, absl::OkStatus());
  EXPECT_FALSE(b->has_value());
  EXPECT_EQ(InSnapshot(0, 0), BackendState::kDrain);
  EXPECT_EQ(InSnapshot(0, 1), BackendState::kUp);

  loop_.RunAll();
  EXPECT_EQ(dataplane_.published.size(), published + 2) << "three changes in one";
  EXPECT_EQ(*b, absl::OkStatus());
  EXPECT_EQ(*c, absl::OkStatus());
  EXPECT_EQ(*c_again, absl::OkStatus());
  EXPECT_EQ(InSnapshot(0, 1), BackendState::kDrain);
  EXPECT_EQ(InSnapshot(0, 2), BackendState::kUp);
}

TEST_F(ControllerTest, ABadFileKeepsTheLastGoodAndIsRemembered) {
  MustStart(ConfigText(ServiceText("web", 1, kAb)));
  const std::shared_ptr<const Snapshot> good = dataplane_.published.back();
  WriteFile("services: nonsense");
  controller_->Reload();
  loop_.RunAll();
  EXPECT_EQ(dataplane_.published.back(), good);
  EXPECT_THAT(controller_->GetStatus().config_error(), HasSubstr("guideway.yaml:1:"));
  EXPECT_EQ(controller_->GetStatus().revision(), 1u);

  std::filesystem::remove(file_);
  controller_->Reload();
  loop_.RunAll();
  EXPECT_THAT(controller_->GetStatus().config_error(), HasSubstr("No such file"));

  WriteFile(ConfigText(ServiceText("web", 1, kAbc)));
  controller_->Reload();
  loop_.RunAll();
  EXPECT_EQ(controller_->GetStatus().config_error(), "");
  EXPECT_EQ(controller_->GetStatus().revision(), 2u);
  EXPECT_EQ(controller_->GetBackends().backends_size(), 3);
}

TEST_F(ControllerTest, ApplyIsAllOrNothing) {
  MustStart(ConfigText(ServiceText("web", 1, kAb)));
  const Outcome bad = Apply("services: 3");
  const Outcome good = Apply(ConfigText(ServiceText("web", 1, kAbc) + ServiceText("x", 2, kAb)));
  loop_.RunAll();
  ASSERT_TRUE(bad->has_value());
  EXPECT_THAT(std::string((*bad)->message()), HasSubstr("new.yaml:1:"));
  EXPECT_EQ(*good, absl::OkStatus());
  EXPECT_EQ(controller_->GetStatus().revision(), 2u);
  EXPECT_EQ(controller_->GetServices().services_size(), 2);
}

TEST_F(ControllerTest, WhatThisHostCannotDoIsNoMatterOfARestart) {
  MustStart(ConfigText(ServiceText("web", 1, kAb)));
  const std::string other =
      ConfigText(ServiceText("web", 1, kAb)) + "dataplane: { workers: [1, 99] }\n";
  EXPECT_THAT(MustPlan(other).host_cannot(), IsEmpty());
  host_ = absl::InvalidArgumentError("new.yaml:9:26: dataplane.workers[1]: found core 99");
  EXPECT_THAT(MustPlan(other).needs_restart(), ElementsAre("dataplane.workers"));
  EXPECT_THAT(MustPlan(other).host_cannot(), ElementsAre(std::string(host_.message())));
  EXPECT_THAT(MustPlan(ConfigText(ServiceText("web", 1, kAbc))).host_cannot(), IsEmpty())
      << "that takes no restart";
  const Outcome outcome = Apply(other);
  const Outcome fine = Apply(ConfigText(ServiceText("web", 1, kAbc)));
  loop_.RunAll();
  EXPECT_THAT(std::string((*outcome)->message()),
              MatchesRegex("new.yaml:9:26: dataplane.workers\\[1\\]: found core 99\n"
                           "new.yaml:10:23: dataplane.workers cannot change while guidewayd runs, "
                           "and a restart with it would fail"));
  EXPECT_EQ(*fine, absl::OkStatus());
}

TEST_F(ControllerTest, WhyABackendIsNotUsed) {
  MustStart(ConfigText(ServiceText(
      "web", 1, absl::StrCat(kAbc, ", { name: d, address: 10.0.0.4, state: drain }"), kTcpCheck)));
  EXPECT_EQ(controller_->WhyUnused("web", "a"), "");
  EXPECT_EQ(controller_->WhyUnused("web", "x"), "");
  EXPECT_EQ(controller_->WhyUnused("web", "d"), "d is drained by the configuration (state: drain)");
  ByHand(&Controller::Drain, "web", "a");
  loop_.RunAll();
  ByHand(&Controller::Drain, "web", "b");  // a later revision, which has both
  loop_.RunAll();
  const std::string time = controller_->GetHistory().revisions(1).time();
  EXPECT_EQ(controller_->WhyUnused("web", "a"),
            absl::StrCat("a is drained by hand (somebody, ", time.substr(0, 10), " ",
                         time.substr(11, 8), " UTC)"));
}

TEST_F(ControllerTest, APlanChangesNothing) {
  MustStart(ConfigText(ServiceText("web", 1, kAbc)));
  dataplane_.by_backend[2] = {.active_flows = 19, .closing_flows = 2};  // c
  const std::shared_ptr<const Snapshot> before = dataplane_.published.back();
  const std::string next = ConfigText(ServiceText("web", 1, kAb) + ServiceText("x", 2, kAb));
  const api::Plan plan = MustPlan(next);
  EXPECT_TRUE(plan.changes());
  ASSERT_EQ(plan.services_size(), 2);
  EXPECT_EQ(plan.services(0).change(), "changed");
  EXPECT_EQ(plan.services(0).backends(0).name(), "c");
  EXPECT_EQ(plan.services(0).backends(0).change(), "removed");
  EXPECT_EQ(plan.services(0).open_connections(), 17u) << "those that are closing are over";
  ASSERT_EQ(plan.services(0).shares_size(), 2) << "who takes new connections then";
  EXPECT_EQ(plan.services(0).shares(0).name(), "a");
  EXPECT_NEAR(plan.services(0).shares(0).share(), 0.5, 0.01);
  EXPECT_FALSE(plan.services(0).new_connections_dropped());
  EXPECT_EQ(plan.services(1).shares_size(), 0) << "nothing moves";
  EXPECT_FALSE(plan.services(1).new_connections_dropped());
  const api::Plan drops =
      MustPlan(ConfigText(ServiceText("web", 1, "{ name: c, address: 10.0.0.3, state: drain }")));
  EXPECT_EQ(drops.services(0).shares_size(), 0);
  EXPECT_TRUE(drops.services(0).new_connections_dropped());
  EXPECT_NEAR(plan.services(0).moved(), 1.0 / 3, 0.05);
  EXPECT_EQ(plan.services(1).change(), "added");

  EXPECT_EQ(dataplane_.published.back(), before);
  EXPECT_EQ(controller_->GetStatus().revision(), 1u);
  EXPECT_EQ(controller_->GetServices().services_size(), 1);
  EXPECT_EQ(controller_->GetStatus().config_error(), "");
  EXPECT_EQ(controller_->GetMetrics().compile_duration.histogram.sample_count, 1u);
  // The ids that it had for x/a and x/b are free again: the next to come gets them.
  Apply(ConfigText(ServiceText("web", 1, kAbc) + ServiceText("y", 2, kAb)));
  loop_.RunAll();
  EXPECT_EQ(dataplane_.snapshot().services()[1]->id, 1u);
  EXPECT_EQ(dataplane_.snapshot().services()[1]->backends[0].id, 3u);
}

TEST_F(ControllerTest, APlanOfWhatIsInForceSaysSo) {
  const std::string text =
      ConfigText(ServiceText("web", 1, kAbc, absl::StrCat(kTcpCheck, ", slow_start: 1h")));
  MustStart(text);
  prober_.Fail("10.0.0.3", "connection refused");
  loop_.Advance(absl::Seconds(4));
  ASSERT_EQ(States()["web/c"], "down");
  api::Plan plan = MustPlan(text);
  EXPECT_FALSE(plan.changes());
  EXPECT_EQ(plan.moved(), 0) << "the health of the moment is on both sides";
  prober_.Heal("10.0.0.3");
  loop_.Advance(absl::Seconds(4));
  ASSERT_EQ(Get("web", "c").tenths(), 1u);
  plan = MustPlan(text);
  EXPECT_EQ(plan.moved(), 0) << "and a slow start under way";
  ByHand(&Controller::Drain, "web", "a");
  loop_.RunAll();
  EXPECT_EQ(MustPlan(text).moved(), 0) << "and a drain by hand";
}

// What moves when a backend is added is told of the time when its probes have brought it up.
TEST_F(ControllerTest, APlanTakesNewBackendsToBeUp) {
  MustStart(ConfigText(ServiceText("web", 1, kAb, kTcpCheck)));
  const api::Plan plan = MustPlan(ConfigText(ServiceText("web", 1, kAbc, kTcpCheck)));
  EXPECT_NEAR(plan.services(0).moved_necessary(), 1.0 / 3, 0.05);
  const api::Plan moved = MustPlan(ConfigText(ServiceText(
      "web", 1, "{ name: a, address: 10.0.0.1 }, { name: b, address: 10.0.0.9 }", kTcpCheck)));
  EXPECT_NEAR(moved.services(0).moved(), 0.5, 0.05) << "another machine under an old name";
  const api::Plan drained = MustPlan(ConfigText(ServiceText(
      "web", 1, "{ name: a, address: 10.0.0.1, state: drain }, { name: b, address: 10.0.0.2 }",
      kTcpCheck)));
  EXPECT_NEAR(drained.services(0).moved(), 0.5, 0.05);
  // And the way back: who is put back is well, and past its slow start.
  ByHand(&Controller::Drain, "web", "b");
  const std::string a_drained =
      "{ name: a, address: 10.0.0.1, state: drain }, { name: b, address: 10.0.0.2 }, { name: c, "
      "address: 10.0.0.3 }";
  const std::string slow = absl::StrCat(kTcpCheck, ", slow_start: 1h");
  Apply(ConfigText(ServiceText("web", 1, a_drained, slow)));
  loop_.Advance(absl::Hours(2));
  ASSERT_EQ(States()["web/a"], "drain");
  const api::Plan back = MustPlan(ConfigText(ServiceText("web", 1, kAbc, slow)));
  EXPECT_NEAR(back.services(0).moved_necessary(), 0.5, 0.05) << "from c to a; b stays drained";
}

TEST_F(ControllerTest, APlanTakesItsTurn) {
  MustStart(ConfigText(ServiceText("web", 1, kAb)));
  const Outcome apply = Apply(ConfigText(ServiceText("web", 1, kAbc)));
  const Planned plan = Plan(ConfigText(ServiceText("web", 1, kAb)));
  while (!apply->has_value()) {
    ASSERT_EQ(loop_.helper_work(), 1u);
    loop_.RunHelper();
  }
  EXPECT_EQ(*apply, absl::OkStatus());
  EXPECT_FALSE(plan->has_value());
  const Outcome drain = ByHand(&Controller::Drain, "web", "a");  // while the plan is made
  loop_.RunAll();
  ASSERT_TRUE(plan->has_value() && (*plan)->ok());
  EXPECT_EQ((**plan)->services(0).backends(0).change(), "removed") << "against what was applied";
  EXPECT_EQ(*drain, absl::OkStatus());
  EXPECT_EQ(InSnapshot(0, 0), BackendState::kDrain);
  EXPECT_EQ(controller_->GetStatus().revision(), 3u);
}

TEST_F(ControllerTest, APlanTellsErrorsAndWhatNeedsARestart) {
  MustStart(ConfigText(ServiceText("web", 1, kAb)));
  const Planned bad = Plan("services: 3");
  loop_.RunAll();
  EXPECT_THAT(std::string((*bad)->status().message()), HasSubstr("new.yaml:1:"));
  EXPECT_EQ(controller_->GetStatus().config_error(), "") << "nobody has tried to apply it";
  EXPECT_EQ(controller_->GetStatus().events_size(), 1);

  std::string text = ConfigText(ServiceText("web", 1, kAb));
  text.replace(text.find("hash_seed: 7"), 12, "hash_seed: 8");
  const api::Plan plan = MustPlan(text + "dataplane: { workers: [0] }\n");
  EXPECT_THAT(plan.needs_restart(), ElementsAre("dataplane.workers", "fleet.hash_seed"));
  EXPECT_NEAR(plan.services(0).moved(), 0.5, 0.05);
  const Outcome still = Apply(ConfigText(ServiceText("web", 1, kAbc)));
  loop_.RunAll();
  EXPECT_EQ(*still, absl::OkStatus());
}

TEST_F(ControllerTest, WhoeverIsNotServedAnyMoreHasMoved) {
  MustStart(ConfigText(ServiceText("web", 1, kAbc) + ServiceText("dns", 2, kAbc)));
  const Outcome refused = ApplyWithin(0.5, ConfigText(ServiceText("web", 1, kAbc)));
  loop_.RunAll();
  ASSERT_TRUE(refused->has_value());
  EXPECT_THAT(std::string((*refused)->message()),
              HasSubstr("100% of service dns's new connections would move"));
}

TEST_F(ControllerTest, PlansDoNotKeepADrainOutOfForce) {
  MustStart(ConfigText(ServiceText("web", 1, kAbc)));
  std::vector<Planned> plans;
  for (int i = 0; i < 3; ++i) plans.push_back(Plan(ConfigText(ServiceText("web", 1, kAb))));
  loop_.RunHelper();  // the first is read
  const Outcome drain = ByHand(&Controller::Drain, "web", "a");
  ASSERT_EQ(loop_.helper_work(), 2u);
  loop_.BeginHelper(1);  // and the second, while the first is compiled
  loop_.EndHelper();
  loop_.Run();
  while (!drain->has_value()) loop_.RunHelper();
  EXPECT_TRUE(plans[0]->has_value());
  EXPECT_FALSE(plans[1]->has_value()) << "it waited for another plan";
  EXPECT_EQ(**drain, absl::OkStatus());
  loop_.RunAll();
  EXPECT_TRUE(plans.back()->has_value() && (*plans.back())->ok());
}

TEST_F(ControllerTest, AnApplyMayMoveSoMuchAndNoMore) {
  const std::string base = ConfigText(ServiceText("web", 1, kAbc) + ServiceText("dns", 2, kAbc));
  MustStart(base);
  const std::string without_c =
      ConfigText(ServiceText("web", 1, kAb) + ServiceText("dns", 2, kAbc));
  const Outcome refused = ApplyWithin(0.02, without_c);
  loop_.RunAll();
  ASSERT_TRUE(refused->has_value());
  EXPECT_EQ((*refused)->code(), absl::StatusCode::kOutOfRange);
  EXPECT_THAT(std::string((*refused)->message()), HasSubstr("% of service web's new connections "
                                                            "would move, and no more than 2% may"));
  EXPECT_THAT(std::string((*refused)->message()), testing::Not(HasSubstr("dns")));
  EXPECT_EQ(controller_->GetStatus().revision(), 1u);
  EXPECT_EQ(dataplane_.published.size(), 1u);
  EXPECT_EQ(controller_->GetBackends().backends_size(), 6);
  EXPECT_EQ(controller_->GetStatus().config_error(), "") << "it is an answer, and no failure";
  EXPECT_THAT(LastEvent(), HasSubstr("more would move than may"));

  const Outcome same = ApplyWithin(0, base);
  loop_.RunAll();
  EXPECT_EQ(*same, absl::OkStatus()) << "nothing moves";
  api::ApplyResult result;
  const Outcome applied = ApplyWithin(0.5, without_c, &result);
  loop_.RunAll();
  EXPECT_EQ(*applied, absl::OkStatus());
  EXPECT_NEAR(result.plan().moved(), 1.0 / 3, 0.05);
  EXPECT_EQ(result.plan().services(0).backends(0).change(), "removed");
  EXPECT_EQ(controller_->GetBackends().backends_size(), 5);
}

// Drains on their way into force are not the doing of the file that comes after them.
TEST_F(ControllerTest, WhatIsPendingByHandDoesNotCountAsMoved) {
  const std::string text = ConfigText(ServiceText("web", 1, kAbc));
  MustStart(text);
  ByHand(&Controller::Drain, "web", "c");
  const Outcome drain = ByHand(&Controller::Drain, "web", "a");  // during the Compile for c
  const Planned plan = Plan(text);
  const Outcome apply = ApplyWithin(0.001, text);
  ASSERT_EQ(loop_.helper_work(), 2u);
  loop_.BeginHelper(1);  // the text for the plan is read first
  loop_.EndHelper();
  loop_.RunAll();
  ASSERT_TRUE(plan->has_value() && (*plan)->ok());
  EXPECT_EQ((**plan)->moved(), 0);
  EXPECT_EQ(**apply, absl::OkStatus());
  EXPECT_EQ(**drain, absl::OkStatus());
  EXPECT_EQ(States()["web/a"], "drain");
}

// Whoever is answered may ask for the next thing: all is settled by then.
TEST_F(ControllerTest, AnAnswerMayAskForMore) {
  MustStart(ConfigText(ServiceText("web", 1, kAbc)));
  ByHand(&Controller::Drain, "web", "c");
  Outcome next;
  std::vector<uint64_t> revisions;
  controller_->Drain({"web", "c", "somebody"}, [&](const auto& result) {  // changes nothing
    EXPECT_EQ(result.status(), absl::OkStatus());
    revisions.push_back(controller_->GetStatus().revision());
    next = ByHand(&Controller::Undrain, "web", "c");
  });
  const Outcome apply = Apply(ConfigText(ServiceText("web", 1, kAbc) + ServiceText("x", 2, kAb)));
  loop_.BeginHelper(1);
  loop_.EndHelper();  // it is read during the Compile for c, and takes the second drain along
  loop_.RunAll();
  EXPECT_THAT(revisions, ElementsAre(3u)) << "all that came with it is done";
  EXPECT_EQ(**next, absl::OkStatus());
  EXPECT_EQ(**apply, absl::OkStatus());
  EXPECT_EQ(States()["web/c"], "up");
  EXPECT_EQ(States()["x/a"], "up");

  bool refused = false;
  controller_->Apply({"new.yaml", "services: 3", "somebody"}, [&](const auto& result) {
    refused = !result.ok();
    next = ByHand(&Controller::Drain, "web", "b");
  });
  loop_.RunAll();
  EXPECT_TRUE(refused);
  EXPECT_EQ(**next, absl::OkStatus());
  EXPECT_EQ(States()["web/b"], "drain");
}

// A backend with a health check gets nothing at first: what it is going to get counts all the same.
TEST_F(ControllerTest, WhatMovesLaterCountsAsMoved) {
  MustStart(ConfigText(ServiceText("web", 1, kAb, kTcpCheck)));
  const std::string more = ConfigText(ServiceText("web", 1, kAbc, kTcpCheck));
  const Outcome refused = ApplyWithin(0.1, more);
  loop_.RunAll();
  EXPECT_EQ((*refused)->code(), absl::StatusCode::kOutOfRange);
  const Outcome applied = ApplyWithin(0.9, more);
  loop_.RunAll();
  EXPECT_EQ(*applied, absl::OkStatus());
  EXPECT_EQ(InSnapshot(0, 2), BackendState::kDrain) << "not taken to be up in truth";
}

TEST_F(ControllerTest, WhatThisVersionDoesNotDoYetIsServedWithAWarning) {
  MustStart(ConfigText(ServiceText("web", 1, kAb)));
  const Outcome outcome = Apply(KernelRoutingText(ServiceText("web", 1, kAb)));
  loop_.RunAll();
  EXPECT_EQ(*outcome, absl::OkStatus());
  const api::Status status = controller_->GetStatus();
  EXPECT_EQ(status.revision(), 2u);
  ASSERT_GE(status.warnings_size(), 1);
  EXPECT_THAT(status.warnings(0), HasSubstr("routing: this version"));
}

TEST_F(ControllerTest, WhatIsFixedWhileItRunsNeedsARestart) {
  const std::string base = ConfigText(ServiceText("web", 1, kAb));
  MustStart(base);
  struct {
    const char* key;
    std::string text;
  } rows[] = {
      {"interfaces", base + "  - { name: x, vips: [198.51.100.9], protocol: udp, ports: [1], "
                            "forwarding: ipip, backends: [] }\n"},
      {"dataplane.workers", base + "dataplane: { workers: [0] }\n"},
      {"dataplane.flows_per_worker", base + "dataplane: { flows_per_worker: 1024 }\n"},
      {"dataplane.hugepages", base + "dataplane: { hugepages: false }\n"},
      {"dataplane.idle", base + "dataplane: { idle: poll }\n"},
      {"control.socket", base + "control: { socket: /tmp/other.sock }\n"},
      {"control.http", base + "control: { http: \"127.0.0.1:9909\" }\n"},
      {"fleet.hash_seed", base},
  };
  rows[0].text.replace(rows[0].text.find("net_null0"), 9, "net_null7");
  std::string& seed = rows[std::size(rows) - 1].text;
  seed.replace(seed.find("hash_seed: 7"), 12, "hash_seed: 8");
  for (const auto& row : rows) {
    const Outcome outcome = Apply(row.text);
    loop_.RunAll();
    ASSERT_TRUE(outcome->has_value());
    EXPECT_EQ((*outcome)->code(), absl::StatusCode::kFailedPrecondition) << row.key;
    EXPECT_THAT(std::string((*outcome)->message()), HasSubstr(row.key));
    EXPECT_THAT(std::string((*outcome)->message()), HasSubstr("restart"));
  }
  EXPECT_EQ(controller_->GetStatus().revision(), 1u);
  EXPECT_EQ(controller_->GetStatus().config_error(),
            absl::StrCat("new.yaml:2:21: fleet.hash_seed cannot change while guidewayd runs: put "
                         "this configuration into ",
                         file_, " and restart guidewayd"));

  std::string all = rows[0].text + "dataplane: { workers: [0],\n  idle: poll }\n";
  all.replace(all.find("hash_seed: 7"), 12, "hash_seed: 8");
  const Outcome outcome = Apply(all);
  loop_.RunAll();
  std::vector<std::string> told;
  for (absl::string_view line : absl::StrSplit((*outcome)->message(), '\n')) {
    told.emplace_back(line.substr(0, line.find(" cannot")));
  }
  EXPECT_THAT(told,
              ElementsAre("new.yaml:4:5: interfaces (uplink)", "new.yaml:11:23: dataplane.workers",
                          "new.yaml:12:9: dataplane.idle", "new.yaml:2:21: fleet.hash_seed"));
}

// Connections go by ids: those of another server under the same name are not its own. The same one
// again, while flow tables know of it, has its connections back.
TEST_F(ControllerTest, AnotherServerIsAnotherBackendToConnections) {
  const auto nat = [](const char* backend) {
    return ConfigText(absl::StrCat(
        "  - { name: web, vips: [198.51.100.1], protocol: tcp, ports: [80], forwarding: nat, "
        "table_size: 1009, backends: [",
        backend, "] }\n"));
  };
  const auto id = [&] { return dataplane_.snapshot().services()[0]->backends[0].id; };
  const auto apply = [&](const std::string& text) {
    const Outcome outcome = Apply(text);
    loop_.RunAll();
    EXPECT_EQ(*outcome, absl::OkStatus());
    return id();
  };
  MustStart(nat("{ name: a, address: 10.0.0.1 }"));
  const BackendId first = id();
  EXPECT_EQ(apply(nat("{ name: a, address: 10.0.0.1, port: 80, weight: 7 }")), first);
  const BackendId second = apply(nat("{ name: a, address: 10.0.0.1, port: 8080 }"));
  EXPECT_NE(second, first);
  EXPECT_EQ(apply(nat("{ name: a, address: 10.0.0.1, port: 8080, weight: 7 }")), second);
  const BackendId third = apply(nat("{ name: a, address: 10.0.0.9, port: 8080 }"));
  EXPECT_NE(third, second);
  EXPECT_EQ(apply(nat("{ name: a, address: 10.0.0.1, port: 8080 }")), second) << "back in time";
  EXPECT_NE(apply(ConfigText(ServiceText("web", 1, "{ name: a, address: 10.0.0.1 }"))), second);
}

TEST_F(ControllerTest, ClientsWhoMayChangeTheirRegionMayAllMove) {
  const auto geo = [](const char* default_region) {
    return ConfigText(ServiceText(
        "web", 1,
        "{ name: a, address: 10.0.0.1, region: eu }, { name: b, address: 10.0.0.2, "
        "region: us }",
        absl::StrCat("scheduler: geographic, default_region: ", default_region,
                     ", regions: [{ name: eu, prefixes: [192.0.2.0/25] }, { name: us, prefixes: "
                     "[192.0.2.128/25] }]")));
  };
  MustStart(geo("eu"));
  const Outcome refused = ApplyWithin(0.5, geo("us"));
  loop_.RunAll();
  EXPECT_THAT(std::string((*refused)->message()),
              HasSubstr("up to 100% of service web's (how many of its clients are in which region "
                        "cannot be told) new connections would move"));
  const Outcome applied = ApplyWithin(1, geo("us"));
  loop_.RunAll();
  EXPECT_EQ(*applied, absl::OkStatus());
}

TEST_F(ControllerTest, WhoIsDeniedByAFileCountsAsMoved) {
  const std::string text =
      ConfigText(ServiceText("web", 1, kAb)) + "access: { deny_files: [deny.txt] }\n";
  const auto deny = [&](const char* list) { std::ofstream(directory_ + "/deny.txt") << list; };
  deny("192.0.2.0/24\n");
  MustStart(ConfigText(ServiceText("web", 1, kAb)));
  const Outcome first = Apply(text);
  loop_.RunAll();
  ASSERT_EQ(*first, absl::OkStatus());
  EXPECT_FALSE(MustPlan(text).changes());
  deny("192.0.2.0/24\n10.0.0.0/8\n");
  const api::Plan plan = MustPlan(text);
  EXPECT_TRUE(plan.changes());
  EXPECT_EQ(plan.settings(0).contents(), "1 prefix added");
  deny("192.0.2.0/24\n0.0.0.0/0\n");
  const Outcome refused = ApplyWithin(0.1, text);
  loop_.RunAll();
  EXPECT_THAT(std::string((*refused)->message()),
              HasSubstr("`access` would deny >99.9% of all IPv4 addresses more"));
  EXPECT_FALSE(dataplane_.snapshot().IsDenied(IpAddress::Parse("10.0.0.1").value()));
}

// One host of many services.
TEST_F(ControllerTest, AHostThatFailsIsAFewEvents) {
  std::string services;
  constexpr int kServices = 150;
  for (int i = 0; i < kServices; ++i) {
    services += absl::StrCat("  - { name: s", i, ", vips: [198.51.", i / 200, ".", i % 200 + 1,
                             "], protocol: tcp, ports: [", 1000 + i,
                             "], forwarding: ipip, "
                             "table_size: 11, health_check: { tcp: {} }, backends: ",
                             "[{ name: h, address: 10.0.0.1 }] }\n");
  }
  MustStart(ConfigText(services));
  prober_.Fail("10.0.0.1", "connection refused");
  loop_.Advance(absl::Seconds(10));
  EXPECT_EQ(Get("s149", "h").state(), "down");
  const api::Status status = controller_->GetStatus();
  EXPECT_THAT(status.events(0).text(), HasSubstr("revision 1 in force"));
  EXPECT_LT(status.events_size(), 20);
  EXPECT_THAT(LastEvent(), HasSubstr(" more at 10.0.0.1 down: connection refused"));
  const int before = status.events_size();
  prober_.Heal("10.0.0.1");
  loop_.Advance(absl::Seconds(10));
  EXPECT_GT(controller_->GetStatus().events_size(), before);
  EXPECT_THAT(LastEvent(), HasSubstr(" more at 10.0.0.1 up"));
}

// What counts is the number, wherever it stands.
TEST_F(ControllerTest, AHashSeedInAFileIsFixedToo) {
  const std::string inline_seed = ConfigText(ServiceText("web", 1, kAb));
  std::string text = inline_seed;
  text.replace(text.find("hash_seed: 7"), 12, "hash_seed_file: seed");
  std::ofstream(directory_ + "/seed") << "7\n";
  MustStart(inline_seed);
  const Outcome same = Apply(text);
  loop_.RunAll();
  EXPECT_EQ(*same, absl::OkStatus());

  std::ofstream(directory_ + "/seed") << "8\n";
  const Outcome other = Apply(text);
  loop_.RunAll();
  ASSERT_TRUE(other->has_value());
  EXPECT_EQ((*other)->code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string((*other)->message()), HasSubstr("fleet.hash_seed_file"));
  EXPECT_THAT(std::string((*other)->message()), HasSubstr("restart"));
  EXPECT_EQ(controller_->GetStatus().revision(), 2u);
}

TEST_F(ControllerTest, ADrainByHandHoldsAsLongAsItsBackendExists) {
  MustStart(ConfigText(ServiceText("web", 1, kAbc)));
  ByHand(&Controller::Drain, "web", "a");
  loop_.RunAll();
  EXPECT_EQ(States()["web/a"], "drain");
  EXPECT_TRUE(Get("web", "a").drained_by_hand());

  Apply(ConfigText(ServiceText("web", 1, kAb)));
  loop_.RunAll();
  EXPECT_EQ(States()["web/a"], "drain") << "kept over an apply";
  controller_->Reload();
  loop_.RunAll();
  EXPECT_EQ(States()["web/a"], "drain") << "kept over a reload";
  EXPECT_EQ(InSnapshot(0, 0), BackendState::kDrain);

  Apply(ConfigText(ServiceText("web", 1, "{ name: b, address: 10.0.0.2 }")));
  loop_.RunAll();
  Apply(ConfigText(ServiceText("web", 1, kAb)));
  loop_.RunAll();
  EXPECT_EQ(States()["web/a"], "up") << "it is a new backend";
}

TEST_F(ControllerTest, DrainAndHealth) {
  MustStart(ConfigText(ServiceText("web", 1, kAb, kTcpCheck)));
  ByHand(&Controller::Drain, "web", "a");
  loop_.RunAll();
  prober_.Fail("10.0.0.1", "connection refused");
  loop_.Advance(absl::Seconds(5));
  EXPECT_EQ(States()["web/a"], "drain") << "somebody wanted it so, whether it lives or not";
  EXPECT_TRUE(Get("web", "a").down());
  EXPECT_TRUE(Get("web", "a").drained_by_hand());
  EXPECT_FALSE(Get("web", "a").drained_by_file());
  EXPECT_EQ(controller_->GetMetrics().backends[0].state, "drain") << "so that nobody is alerted";
  EXPECT_EQ(InSnapshot(0, 0), BackendState::kDown) << "its connections have to go elsewhere";
  prober_.Heal("10.0.0.1");
  loop_.Advance(absl::Seconds(5));
  EXPECT_EQ(States()["web/a"], "drain");
  EXPECT_FALSE(Get("web", "a").down());
  EXPECT_EQ(InSnapshot(0, 0), BackendState::kDrain);
}

TEST_F(ControllerTest, AFileThatReplacesAllBackendsDropsNothing) {
  const char kNew[] = "{ name: c, address: 10.0.0.3 }, { name: d, address: 10.0.0.4 }";
  MustStart(ConfigText(ServiceText("web", 1, kAb, kTcpCheck)));
  prober_.silent = true;
  Apply(ConfigText(ServiceText("web", 1, kNew, kTcpCheck)));
  loop_.RunAll();
  EXPECT_EQ(InSnapshot(0, 0), BackendState::kUp) << "nobody else is there";
  EXPECT_EQ(InSnapshot(0, 1), BackendState::kUp);
  EXPECT_EQ(States()["web/c"], "checking");
  EXPECT_GT(Get("web", "c").share(), 0.4);
  EXPECT_EQ(controller_->GetServices().services(0).backends_up(), 2u);

  loop_.Advance(absl::Milliseconds(10));
  prober_.asked[prober_.asked.size() - 2].done({});
  loop_.RunAll();
  const std::string first =
      prober_.asked[prober_.asked.size() - 2].question.address.ToString() == "10.0.0.3" ? "c" : "d";
  const std::string second = first == "c" ? "d" : "c";
  EXPECT_EQ(States()["web/" + first], "up");
  EXPECT_EQ(States()["web/" + second], "checking");
  EXPECT_GT(Get("web", second).share(), 0.4) << "the first to answer does not get all";
  prober_.asked.back().done({ProbeAnswer::Kind::kFailed, "connection refused"});
  loop_.RunAll();
  EXPECT_EQ(States()["web/" + second], "down") << "of a new machine the first answer decides";
}

TEST_F(ControllerTest, ABackendThatIsAddedWaitsForItsFirstAnswerWhereOthersAreUp) {
  MustStart(ConfigText(ServiceText("web", 1, kAb, kTcpCheck)));
  prober_.silent = true;
  Apply(ConfigText(ServiceText("web", 1, kAbc, kTcpCheck)));
  loop_.RunAll();
  EXPECT_EQ(InSnapshot(0, 2), BackendState::kDrain);

  // The old ones leave before it has answered, drained first or not.
  Apply(ConfigText(ServiceText("web", 1,
                               "{ name: a, address: 10.0.0.1, state: drain }, "
                               "{ name: c, address: 10.0.0.3 }",
                               kTcpCheck)));
  loop_.RunAll();
  EXPECT_EQ(InSnapshot(0, 0), BackendState::kDrain);
  EXPECT_TRUE(Get("web", "a").drained_by_file());
  EXPECT_EQ(InSnapshot(0, 1), BackendState::kUp);
  Apply(ConfigText(ServiceText("web", 1, "{ name: c, address: 10.0.0.5 }", kTcpCheck)));
  loop_.RunAll();
  EXPECT_EQ(InSnapshot(0, 0), BackendState::kUp) << "another machine under its name";
}

// New backends of a region whose clients others can serve wait; of one that nobody serves not.
TEST_F(ControllerTest, ARegionWhoseBackendsAreReplacedDropsNothing) {
  const auto text = [](const std::string& eu, const std::string& us, const std::string& fallback) {
    return ConfigText(ServiceText(
        "web", 1,
        "{ name: e, address: " + eu + ", region: eu }, { name: u, address: " + us +
            ", region: us }",
        std::string(kTcpCheck) +
            ", scheduler: geographic, default_region: us, regions: [{ name: eu, prefixes: "
            "[203.0.113.0/24]" +
            fallback + " }, { name: us, prefixes: [192.0.2.0/24] }]"));
  };
  MustStart(text("10.0.0.1", "10.0.0.2", ""));
  prober_.silent = true;
  Apply(text("10.0.0.3", "10.0.0.2", ""));
  loop_.RunAll();
  EXPECT_EQ(InSnapshot(0, 0), BackendState::kDrain) << "us serves its clients so long";
  Apply(text("10.0.0.3", "10.0.0.2", ", fallback: []"));
  loop_.RunAll();
  EXPECT_EQ(InSnapshot(0, 0), BackendState::kUp) << "nobody would";
}

TEST_F(ControllerTest, AFileThatHangsIsGivenUpAndHoldsUpNobodyForEver) {
  MustStart(ConfigText(ServiceText("web", 1, kAbc)));
  absl::Status reloaded;
  controller_->Reload([&](const auto& result) { reloaded = result.status(); });
  const Outcome applied = Apply(ConfigText(ServiceText("web", 1, kAb)));
  loop_.AdvanceLoop(absl::Seconds(29));
  EXPECT_EQ(reloaded, absl::OkStatus()) << "nothing yet";
  loop_.AdvanceLoop(absl::Seconds(4));
  EXPECT_EQ(reloaded.code(), absl::StatusCode::kDeadlineExceeded);
  EXPECT_THAT(std::string(reloaded.message()),
              StartsWith(absl::StrCat("cannot read ", file_, ": nothing has come of it for 30s")));
  EXPECT_EQ(controller_->GetStatus().config_error(), reloaded.message());
  EXPECT_EQ(*applied, std::nullopt);
  loop_.RunAll();
  EXPECT_EQ(**applied, absl::OkStatus());
  loop_.AdvanceLoop(absl::Minutes(5));
  EXPECT_EQ(controller_->GetStatus().config_error(), "");
}

TEST_F(ControllerTest, WhatTakesLongToParseIsNotGivenUp) {
  MustStart(ConfigText(ServiceText("web", 1, kAbc)));
  const Outcome applied = Apply(ConfigText(ServiceText("web", 1, kAb)));
  loop_.BeginHelper();  // it is in no file any more
  loop_.AdvanceLoop(absl::Minutes(5));
  EXPECT_EQ(*applied, std::nullopt);
  loop_.EndHelper();
  loop_.RunAll();
  EXPECT_EQ(**applied, absl::OkStatus());
}

TEST_F(ControllerTest, OnlySoManyThreadsHangInFiles) {
  MustStart(ConfigText(ServiceText("web", 1, kAbc)));
  std::vector<std::string> errors;
  const auto reload = [&] {
    controller_->Reload(
        [&](const auto& result) { errors.push_back(std::string(result.status().message())); });
  };
  for (size_t i = 0; i < kMaxThreadsApart; ++i) {
    reload();
    loop_.AdvanceLoop(absl::Minutes(1));
  }
  EXPECT_EQ(loop_.threads_apart(), 8u);
  ASSERT_EQ(errors.size(), 8u);
  reload();
  loop_.RunAll();
  ASSERT_EQ(errors.size(), 9u);
  EXPECT_THAT(errors.back(),
              HasSubstr(absl::StrCat("it is not read while 8 threads wait for files that do not "
                                     "answer, the last for ",
                                     file_)));
  const Outcome applied = Apply(ConfigText(ServiceText("web", 1, kAb)));
  loop_.RunAll();
  EXPECT_EQ(**applied, absl::OkStatus()) << "it names no file";
  loop_.EndLeftBehind();
  reload();
  loop_.RunAll();
  ASSERT_EQ(errors.size(), 10u);
  EXPECT_EQ(errors.back(), "");
}

// --- What a plan knows of health ----------------------------------------------------------------

TEST_F(ControllerTest, APlanKnowsWhoIsUpWithoutAHealthCheck) {
  MustStart(ConfigText(ServiceText("web", 1, kAb, kTcpCheck)));
  prober_.Fail("10.0.0.1", "connection refused");
  loop_.Advance(absl::Seconds(10));
  ASSERT_EQ(States()["web/a"], "down");
  const std::string unchecked = ConfigText(ServiceText("web", 1, kAb));
  const api::Plan plan = MustPlan(unchecked);
  EXPECT_NEAR(plan.services(0).moved(), 0.5, 0.05);
  EXPECT_THAT(plan.services(0).notes(),
              ElementsAre("there is no health check any more: whoever is down counts as up"));
  const Outcome refused = ApplyWithin(0.1, unchecked);
  loop_.RunAll();
  EXPECT_EQ((*refused)->code(), absl::StatusCode::kOutOfRange);
  // And it is so.
  Apply(unchecked);
  loop_.RunAll();
  EXPECT_EQ(InSnapshot(0, 0), BackendState::kUp);
}

TEST_F(ControllerTest, APlanJudgesMinHealthyAsItWillBe) {
  const auto text = [](const char* more) {
    return ConfigText(ServiceText("web", 1, kAbc, more + std::string(kTcpCheck)));
  };
  MustStart(text(""));
  for (const char* host : {"10.0.0.1", "10.0.0.2"}) prober_.Fail(host, "connection refused");
  loop_.Advance(absl::Seconds(10));
  ASSERT_EQ(States()["web/b"], "down");
  EXPECT_EQ(MustPlan(text("min_healthy: 30%, ")).services(0).moved(), 0) << "a third is well";
  EXPECT_NEAR(MustPlan(text("min_healthy: 40%, ")).services(0).moved(), 2 / 3., 0.05);
  Apply(text("min_healthy: 40%, "));
  loop_.RunAll();
  EXPECT_EQ(InSnapshot(0, 0), BackendState::kUp);
  // It ends at ten points more than the share: so not yet.
  EXPECT_EQ(MustPlan(text("min_healthy: 25%, ")).services(0).moved(), 0);
  EXPECT_NEAR(MustPlan(text("min_healthy: 20%, ")).services(0).moved(), 2 / 3., 0.05);
  EXPECT_NEAR(MustPlan(text("")).services(0).moved(), 2 / 3., 0.05);
  Apply(text("min_healthy: 25%, "));
  loop_.RunAll();
  EXPECT_EQ(InSnapshot(0, 0), BackendState::kUp);
  Apply(text("min_healthy: 20%, "));
  loop_.RunAll();
  EXPECT_EQ(InSnapshot(0, 0), BackendState::kDown);
}

TEST_F(ControllerTest, APlanSaysWhatOnlyAnswersCanTell) {
  const auto notes = [&](const std::string& more) {
    const api::Plan plan = MustPlan(ConfigText(ServiceText("web", 1, kAb, more)));
    EXPECT_EQ(plan.services(0).moved(), 0) << more;
    return std::vector<std::string>(plan.services(0).notes().begin(),
                                    plan.services(0).notes().end());
  };
  MustStart(ConfigText(ServiceText("web", 1, kAb)));
  EXPECT_THAT(notes(kTcpCheck), ElementsAre(StartsWith("there is a health check now: backends")));
  Apply(ConfigText(ServiceText("web", 1, kAb, kTcpCheck)));
  prober_.Fail("10.0.0.1", "connection refused");
  loop_.Advance(absl::Seconds(10));
  ASSERT_EQ(States()["web/a"], "down");
  EXPECT_THAT(notes("health_check: { icmp: {} }"),
              ElementsAre(StartsWith("the health check asks something else: backends keep")));
  EXPECT_THAT(notes("health_check: { tcp: { port: 81 }, rise: 2, fall: 3 }"),
              ElementsAre(StartsWith("the health check asks something else")));
  EXPECT_THAT(notes("health_check: { tcp: {}, rise: 7, fall: 9, interval: 5s }"), IsEmpty());
}

TEST_F(ControllerTest, ABrokenDenyFileChangesNothing) {
  const std::string deny = directory_ + "/deny.txt";
  std::ofstream(deny) << "203.0.113.0/24\n";
  const std::string text =
      ConfigText(ServiceText("web", 1, kAb)) + "access: { deny_files: [" + deny + "] }\n";
  WriteFile(text);
  controller_.emplace(&loop_, &prober_, &dataplane_,
                      Controller::Options{.config_file = file_, .version = "test"},
                      LoadConfigFile(file_).value());
  ASSERT_EQ(controller_->Start(), absl::OkStatus());
  const IpAddress spammer = IpAddress::Parse("203.0.113.9").value();
  const IpAddress another = IpAddress::Parse("192.0.2.9").value();
  EXPECT_TRUE(dataplane_.snapshot().IsDenied(spammer));

  std::ofstream(deny) << "192.0.2.0/24\n203.0.113.0/33\n";
  controller_->Reload();
  loop_.RunAll();
  EXPECT_THAT(controller_->GetStatus().config_error(),
              HasSubstr(deny + ":2:1: found 203.0.113.0/"));
  EXPECT_EQ(dataplane_.published.size(), 1u);
  EXPECT_TRUE(dataplane_.snapshot().IsDenied(spammer));

  std::filesystem::remove(deny);
  controller_->Reload();
  loop_.RunAll();
  EXPECT_THAT(controller_->GetStatus().config_error(), HasSubstr("cannot read " + deny));
  EXPECT_EQ(dataplane_.published.size(), 1u);

  std::ofstream(deny) << "192.0.2.0/24\n";
  controller_->Reload();
  loop_.RunAll();
  EXPECT_EQ(controller_->GetStatus().config_error(), "");
  EXPECT_FALSE(dataplane_.snapshot().IsDenied(spammer));
  EXPECT_TRUE(dataplane_.snapshot().IsDenied(another));
}

TEST_F(ControllerTest, AnAppliedFileNamesFilesBesideTheDaemonsOwn) {
  std::ofstream(directory_ + "/deny.txt") << "203.0.113.0/24\n";
  MustStart(ConfigText(ServiceText("web", 1, kAb)));
  const Outcome outcome =
      Apply(ConfigText(ServiceText("web", 1, kAb)) + "access: { deny_files: [deny.txt] }\n");
  loop_.RunAll();
  EXPECT_EQ(**outcome, absl::OkStatus());
  EXPECT_TRUE(dataplane_.snapshot().IsDenied(IpAddress::Parse("203.0.113.9").value()));
}

TEST_F(ControllerTest, EachSnapshotKnowsTheAddressesOfTheHost) {
  const IpAddress first = IpAddress::Parse("192.0.2.77").value();
  const IpAddress second = IpAddress::Parse("fe80::77").value();
  std::vector<IpAddress> addresses = {first};
  const std::string text = ConfigText(ServiceText("web", 1, kAb));
  controller_.emplace(
      &loop_, &prober_, &dataplane_,
      Controller::Options{
          .config_file = file_, .version = "test", .own_addresses = [&] { return addresses; }},
      LoadText(text));
  ASSERT_EQ(controller_->Start(), absl::OkStatus());
  EXPECT_TRUE(dataplane_.snapshot().IsOwn(first));
  EXPECT_TRUE(dataplane_.snapshot().IsOwn(IpAddress::Parse("192.0.2.1").value()))
      << "the tunnel's source";
  addresses = {second};
  ByHand(&Controller::Drain, "web", "a");
  loop_.RunAll();
  EXPECT_FALSE(dataplane_.snapshot().IsOwn(first));
  EXPECT_TRUE(dataplane_.snapshot().IsOwn(second));
}

TEST(HostAddresses, LoopbackIsOne) {
  EXPECT_THAT(HostAddresses(), testing::Contains(IpAddress::Parse("127.0.0.1").value()));
}

TEST_F(ControllerTest, UnknownNamesAreRefusedWithWhatThereIs) {
  MustStart(ConfigText(ServiceText("web", 1, kAbc) + ServiceText("dns", 2, "")));
  const Outcome backend = ByHand(&Controller::Drain, "web", "z");
  const Outcome service = ByHand(&Controller::Undrain, "wbe", "a");
  const Outcome empty = ByHand(&Controller::Drain, "dns", "a");
  EXPECT_FALSE(backend->has_value()) << "never from within the call";
  loop_.RunAll();
  EXPECT_EQ(**backend, absl::NotFoundError("service web has no backend \"z\"; it has a, b, c"));
  EXPECT_EQ(**service, absl::NotFoundError(
                           "there is no service \"wbe\"; there are web, dns; did you mean web?"));
  EXPECT_EQ(**empty, absl::NotFoundError("service dns has no backend \"a\"; it has none"));
}

TEST_F(ControllerTest, ADrainOfTheFileIsNotUndoneByHand) {
  MustStart(ConfigText(ServiceText("web", 1, "{ name: a, address: 10.0.0.1, state: drain }")));
  EXPECT_EQ(States()["web/a"], "drain");
  EXPECT_FALSE(Get("web", "a").drained_by_hand());
  const Outcome outcome = ByHand(&Controller::Undrain, "web", "a");
  loop_.RunAll();
  EXPECT_EQ((*outcome)->code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(std::string((*outcome)->message()), HasSubstr("state: drain"));
}

TEST_F(ControllerTest, HealthIsKeptOverAReload) {
  prober_.Fail("10.0.0.2", "connection refused");
  MustStart(ConfigText(ServiceText("web", 1, kAb, kTcpCheck)));
  loop_.Advance(absl::Seconds(4));
  prober_.silent = true;
  Apply(ConfigText(ServiceText("web", 1, kAbc, kTcpCheck)));
  loop_.RunAll();
  EXPECT_EQ(States(), (std::map<std::string, std::string>{
                          {"web/a", "up"}, {"web/b", "down"}, {"web/c", "checking"}}));
}

TEST_F(ControllerTest, ANewQuestionDoesNotTakeABackendOutBeforeItIsAnswered) {
  MustStart(ConfigText(ServiceText("web", 1, kAb, kTcpCheck)));
  prober_.silent = true;
  Apply(ConfigText(ServiceText("web", 1,
                               "{ name: a, address: 10.0.0.1 }, { name: b, address: 10.0.0.9 }",
                               "health_check: { http: { path: /new }, fall: 2 }")));
  loop_.RunAll();
  EXPECT_EQ(States()["web/a"], "up") << "the same machine";
  EXPECT_EQ(States()["web/b"], "checking") << "another machine under the old name";
  EXPECT_EQ(InSnapshot(0, 0), BackendState::kUp);

  prober_.silent = false;
  prober_.Fail("10.0.0.1", "status 404");
  prober_.Fail("10.0.0.9", "status 404");
  loop_.Advance(absl::Milliseconds(10));
  EXPECT_EQ(States()["web/a"], "up") << "one failure is not two";
  EXPECT_EQ(States()["web/b"], "down") << "of a new machine the first answer decides";
  loop_.Advance(absl::Seconds(4));
  EXPECT_EQ(States()["web/a"], "down");
}

TEST_F(ControllerTest, AHealthChangeDuringTheCompileOfANewQuestionIsKept) {
  MustStart(ConfigText(ServiceText("web", 1, kAb, "health_check: { tcp: {}, fall: 1 }")));
  prober_.silent = true;
  loop_.Advance(absl::Seconds(4));  // a question of each backend is under way
  Apply(ConfigText(ServiceText("web", 1, kAb, "health_check: { http: { path: /new } }")));
  loop_.RunHelper();
  ASSERT_EQ(loop_.helper_work(), 1u) << "the Compile";
  FakeProber::Asked& last = prober_.asked.back();
  const std::string name = last.question.address.ToString() == "10.0.0.1" ? "web/a" : "web/b";
  last.done({ProbeAnswer::Kind::kFailed, "connection refused"});
  ASSERT_EQ(States()[name], "up") << "the workers do not know yet";

  loop_.RunAll();
  EXPECT_EQ(States()[name], "down");
  EXPECT_EQ(InSnapshot(0, name == "web/a" ? 0 : 1), BackendState::kDown);
}

TEST_F(ControllerTest, IdsAreReusedAfterTheSweepAndCountFromZero) {
  MustStart(ConfigText(ServiceText("web", 1, "{ name: a, address: 10.0.0.1 }")));
  const BackendId a = dataplane_.snapshot().services()[0]->backends[0].id;
  const auto id_of_first = [&] { return dataplane_.snapshot().services()[0]->backends[0].id; };
  dataplane_.by_backend[a] = {.packets = 100, .bytes = 6400, .new_flows = 10, .active_flows = 3};
  EXPECT_EQ(Get("web", "a").packets(), 100u);

  Apply(ConfigText(ServiceText("web", 1, "{ name: b, address: 10.0.0.2 }")));
  loop_.RunAll();
  const uint64_t without_a = dataplane_.snapshot().version();
  EXPECT_NE(id_of_first(), a);

  dataplane_.swept_version = without_a - 1;
  loop_.Advance(absl::Seconds(1));
  Apply(ConfigText(ServiceText("web", 1, "{ name: c, address: 10.0.0.3 }")));
  loop_.RunAll();
  EXPECT_NE(id_of_first(), a) << "flow tables may still hold it";

  dataplane_.swept_version = without_a;
  loop_.Advance(absl::Seconds(1));
  dataplane_.by_backend[a].active_flows = 0;
  Apply(ConfigText(ServiceText("web", 1, "{ name: d, address: 10.0.0.4 }")));
  loop_.RunAll();
  ASSERT_EQ(id_of_first(), a);
  EXPECT_EQ(Get("web", "d").packets(), 0u);
  EXPECT_EQ(Get("web", "d").new_flows(), 0u);
  dataplane_.by_backend[a].packets = 105;
  EXPECT_EQ(Get("web", "d").packets(), 5u);
}

TEST_F(ControllerTest, ARefusedConfigurationUsesUpNoIds) {
  MustStart(ConfigText(ServiceText("web", 1, "{ name: a, address: 10.0.0.1 }")));
  // Refused by Compile at the latest: 1010 is no prime.
  std::string bad = ConfigText(ServiceText("web", 1, kAbc));
  bad.replace(bad.find("1009"), 4, "1010");
  Apply(bad);
  loop_.RunAll();
  EXPECT_NE(controller_->GetStatus().config_error(), "");
  Apply(ConfigText(ServiceText("web", 1, kAb)));
  loop_.RunAll();
  EXPECT_EQ(dataplane_.snapshot().services()[0]->backends[1].id, 1u);
}

TEST_F(ControllerTest, ADrainRequestedWhileAConfigurationIsRefusedStillHappens) {
  MustStart(ConfigText(ServiceText("web", 1, kAb)));
  const Outcome bad = Apply("services: 3");
  const Outcome drain = ByHand(&Controller::Drain, "web", "a");
  loop_.RunAll();
  EXPECT_FALSE((*bad)->ok());
  EXPECT_EQ(*drain, absl::OkStatus());
  EXPECT_EQ(InSnapshot(0, 0), BackendState::kDrain);
}

TEST_F(ControllerTest, ReloadsThatWaitAreOne) {
  MustStart(ConfigText(ServiceText("web", 1, kAb)));
  std::vector<uint64_t> answers;
  for (int i = 0; i < 5; ++i) {
    if (i == 2) {
      controller_->Reload();  // whoever asked does not care
      continue;
    }
    controller_->Reload([&](const auto& result) { answers.push_back(result->revision()); });
  }
  EXPECT_THAT(answers, testing::IsEmpty());
  loop_.RunAll();
  EXPECT_EQ(controller_->GetStatus().revision(), 3u) << "the first, and one for the other four";
  EXPECT_THAT(answers, testing::ElementsAre(2, 3, 3, 3));
}

TEST_F(ControllerTest, StatusTellsWhatIsSo) {
  dataplane_.worker_status[0].packets.received = 11;
  dataplane_.worker_status[0].packets.verdicts = {5, 1, 2, 3};
  dataplane_.worker_status[0].packets.reasons[0] = 3;
  MustStart(ConfigText(ServiceText("web", 1, kAb)));
  dataplane_.by_service[0] = {.packets = 9, .bytes = 900, .forwarded = 8, .dropped = 1};
  dataplane_.by_backend[0] = {.new_flows = 2, .active_flows = 1};
  dataplane_.by_backend[1] = {.new_flows = 3, .active_flows = 2};
  loop_.Advance(absl::Seconds(5));
  api::Status status = controller_->GetStatus();
  EXPECT_EQ(status.state(), "serving");
  EXPECT_EQ(status.version(), "test");
  EXPECT_EQ(status.config_file(), file_);
  EXPECT_NEAR(status.uptime_seconds(), 5.01, 1e-6);
  EXPECT_EQ(status.packets().received(), 11u);
  EXPECT_EQ(status.packets().drops().at("malformed"), 3u);
  EXPECT_EQ(status.packets().drops().at("transmit_full"), 0u) << "zeros too";
  EXPECT_EQ(status.workers_size(), 1);
  EXPECT_EQ(status.interfaces(0).mac(), "02:00:00:00:00:01");
  const api::Service web = controller_->GetServices().services(0);
  EXPECT_THAT(web.vips(), ElementsAre("198.51.100.1"));
  EXPECT_THAT(web.ports(), ElementsAre("80"));
  EXPECT_EQ(web.scheduler(), "maglev");
  EXPECT_EQ(web.packets(), 9u);
  EXPECT_EQ(web.new_flows(), 5u);
  EXPECT_EQ(web.active_flows(), 3u);
  controller_->SetStopping();
  EXPECT_EQ(controller_->GetStatus().state(), "stopping");
  EXPECT_GT(dataplane_.reclaims, 10);
}

TEST_F(ControllerTest, ServicesShowTheirPrefixes) {
  MustStart(ConfigText(
      "  - { name: all, vips: [198.51.100.96/28, \"2001:DB8::1\", 198.51.100.5/32], protocol: any, "
      "forwarding: direct, backends: [{ name: a, address: 10.0.0.1 }] }\n"));
  const api::Service all = controller_->GetServices().services(0);
  EXPECT_THAT(all.vips(), ElementsAre("198.51.100.96/28", "2001:db8::1", "198.51.100.5"));
  EXPECT_EQ(all.protocol(), "any");
  EXPECT_THAT(all.ports(), IsEmpty());
  EXPECT_EQ(all.forwarding(), "direct");
}

TEST_F(ControllerTest, EventsAreBounded) {
  MustStart(ConfigText(ServiceText("web", 1, kAb)));
  for (int i = 0; i < 200; ++i) {
    ByHand(i % 2 == 0 ? &Controller::Drain : &Controller::Undrain, "web", "a");
    loop_.RunAll();
  }
  EXPECT_EQ(controller_->GetStatus().events_size(), 100);
  EXPECT_EQ(LastEvent(), "backend web/a no longer drained by hand");
}

TEST_F(ControllerTest, CanBeDestroyedWhileACompileIsUnderWay) {
  MustStart(ConfigText(ServiceText("web", 1, kAb, kTcpCheck)));
  const Outcome outcome = ByHand(&Controller::Drain, "web", "a");
  controller_.reset();
  loop_.RunAll();
  EXPECT_FALSE(outcome->has_value());
}

constexpr char kAbcde[] =
    "{ name: a, address: 10.0.0.1 }, { name: b, address: 10.0.0.2 }, { name: c, address: 10.0.0.3 "
    "}, { name: d, address: 10.0.0.4 }, { name: e, address: 10.0.0.5 }";

TEST_F(ControllerTest, WhenTooFewAreHealthyHealthIsIgnored) {
  MustStart(ConfigText(
      ServiceText("web", 1, kAbcde, "min_healthy: 30%, slow_start: 1h, " + std::string(kTcpCheck)) +
      ServiceText("other", 2, kAbcde, "min_healthy: 10%, " + std::string(kTcpCheck))));
  for (const char* address : {"10.0.0.2", "10.0.0.3", "10.0.0.4"}) {
    prober_.Fail(address, "connection refused");
  }
  loop_.Advance(absl::Seconds(4));
  EXPECT_EQ(controller_->GetServices().services(0).backends_up(), 2u);
  prober_.Fail("10.0.0.5", "connection refused");
  loop_.Advance(absl::Seconds(4));
  EXPECT_EQ(LastEvent(),
            "service web: 1 of 5 backends healthy (20 % by weight, less than 30 %): health is "
            "ignored");
  EXPECT_TRUE(controller_->GetServices().services(0).health_ignored());
  EXPECT_EQ(controller_->GetServices().services(0).healthy(), 1u);
  EXPECT_EQ(controller_->GetServices().services(0).backends_up(), 5u);
  EXPECT_EQ(controller_->GetServices().services(1).backends_up(), 1u) << "20 % is enough for it";
  EXPECT_EQ(States()["web/b"], "down") << "what the probes say";
  EXPECT_TRUE(Get("web", "b").health_ignored());
  EXPECT_EQ(Get("web", "b").tenths(), 10u) << "at once";
  EXPECT_NEAR(Get("web", "b").share(), 0.2, 0.05);
  EXPECT_FALSE(Get("other", "b").health_ignored());
  EXPECT_EQ(Get("other", "b").share(), 0);

  // It outlives a reload.
  WriteFile(
      ConfigText(ServiceText("web", 1, kAbcde, "min_healthy: 35%, " + std::string(kTcpCheck))));
  controller_->Reload();
  loop_.Advance(absl::Milliseconds(10));
  prober_.Heal("10.0.0.2");
  loop_.Advance(absl::Seconds(4));
  EXPECT_TRUE(controller_->GetServices().services(0).health_ignored()) << "40 % is less than 45 %";
  prober_.Heal("10.0.0.3");
  loop_.Advance(absl::Seconds(4));
  EXPECT_EQ(LastEvent(),
            "service web: 3 of 5 backends healthy (60 % by weight): health counts again");
  EXPECT_EQ(controller_->GetServices().services(0).backends_up(), 3u);
  EXPECT_EQ(Get("web", "d").share(), 0);
}

TEST_F(ControllerTest, WhoIsDrainedCountsNeitherWay) {
  MustStart(ConfigText(ServiceText("web", 1, kAbc, "min_healthy: 60%, " + std::string(kTcpCheck))));
  prober_.Fail("10.0.0.3", "timeout");
  loop_.Advance(absl::Seconds(4));
  EXPECT_FALSE(controller_->GetServices().services(0).health_ignored());
  ByHand(&Controller::Drain, "web", "a");
  loop_.RunAll();
  EXPECT_TRUE(controller_->GetServices().services(0).health_ignored()) << "1 of 2";
  EXPECT_EQ(InSnapshot(0, 0), BackendState::kDrain);
  EXPECT_EQ(InSnapshot(0, 2), BackendState::kUp);
  ByHand(&Controller::Undrain, "web", "a");
  loop_.RunAll();
  EXPECT_TRUE(controller_->GetServices().services(0).health_ignored()) << "2 of 3 is not 70 %";
}

TEST_F(ControllerTest, WhoFlapsIsHeld) {
  const std::string kCheck =
      "health_check: { tcp: {}, rise: 1, fall: 1, flap_damping: { after: 2, hold: 20s, max_hold: "
      "60s } }";
  MustStart(ConfigText(ServiceText("web", 1, kAbc, kCheck)));
  const auto flap = [&] {
    prober_.Fail("10.0.0.3", "status 503");
    loop_.Advance(absl::Seconds(2));
    EXPECT_EQ(States()["web/c"], "down");
    prober_.Heal("10.0.0.3");
    loop_.Advance(absl::Seconds(2));
  };
  flap();
  flap();
  EXPECT_EQ(LastEvent(), "backend web/c up");
  EXPECT_EQ(States()["web/c"], "up");
  flap();
  EXPECT_EQ(LastEvent(), "backend web/c well again and held for 20s: it went down 3 times");
  EXPECT_EQ(States()["web/c"], "held");
  EXPECT_EQ(Get("web", "c").health(), "ok");
  EXPECT_EQ(Get("web", "c").times_down(), 3u);
  EXPECT_EQ(Get("web", "c").share(), 0);
  EXPECT_EQ(InSnapshot(0, 2), BackendState::kDrain) << "it keeps what it has";
  const uint32_t seconds = Get("web", "c").held_seconds();
  EXPECT_GT(seconds, 17u);
  EXPECT_LE(seconds, 20u);
  loop_.Advance(absl::Seconds(5));
  EXPECT_EQ(Get("web", "c").held_seconds(), seconds - 5);
  loop_.Advance(absl::Seconds(15));
  EXPECT_EQ(States()["web/c"], "up");
  EXPECT_EQ(LastEvent(), "backend web/c is not held any longer");

  flap();
  EXPECT_EQ(LastEvent(), "backend web/c well again and held for 40s: it went down 4 times");
  prober_.Fail("10.0.0.1", "status 503");
  prober_.Fail("10.0.0.2", "status 503");
  loop_.Advance(absl::Seconds(2));
  EXPECT_EQ(States()["web/c"], "up") << "nobody else is left";
  EXPECT_EQ(LastEvent(), "service web: nobody is held any more, too few would be left");
  prober_.Heal("10.0.0.1");
  loop_.Advance(absl::Seconds(2));
  EXPECT_EQ(States()["web/c"], "held");

  ByHand(&Controller::Undrain, "web", "c");
  loop_.RunAll();
  EXPECT_EQ(States()["web/c"], "up") << "somebody knows better";
  EXPECT_EQ(Get("web", "c").times_down(), 0u);
  prober_.Heal("10.0.0.2");
  for (int i = 0; i < 3; ++i) flap();
  EXPECT_EQ(States()["web/c"], "held");

  // Another configuration may be more patient.
  WriteFile(ConfigText(ServiceText(
      "web", 1, kAbc, "health_check: { tcp: {}, rise: 1, fall: 1, flap_damping: { hold: 0s } }")));
  controller_->Reload();
  loop_.Advance(absl::Milliseconds(10));
  EXPECT_EQ(States()["web/c"], "up");
}

TEST_F(ControllerTest, OneProbeServesAllThatAskTheSame) {
  MustStart(ConfigText(
      ServiceText("web", 1, kAb, "min_healthy: 30%, " + std::string(kTcpCheck)) +
      ServiceText("other", 2, kAb,
                  "health_check: { tcp: {}, rise: 2, fall: 3, flap_damping: { after: 1 } }")));
  EXPECT_EQ(prober_.Count("10.0.0.1"), 1);
  loop_.Advance(absl::Seconds(100));
  EXPECT_NEAR(prober_.Count("10.0.0.1"), 100, 5);
}

TEST_F(ControllerTest, ACompileDelaysNoProbe) {
  MustStart(ConfigText(ServiceText("web", 1, kAb, kTcpCheck)));
  const std::string text = ConfigText(ServiceText("web", 1, kAbc, kTcpCheck));
  Apply(text);
  loop_.RunHelper();  // it is read
  for (int i = 1; i <= 10; ++i) {
    loop_.Stall(absl::Seconds(1));
    loop_.Run();
    ASSERT_EQ(loop_.helper_work(), 1u) << "it is being compiled";
    EXPECT_GE(prober_.Count("10.0.0.1"), i) << "asked all the same";
  }
}

}  // namespace
}  // namespace guideway
