/// Finetuning at many learning rates: accuracy, distances and hyperspherical energy.

#include <ether/io/parallel.hpp>

#include <atomic>

#include "csv.hpp"
#include "methods.hpp"
#include "setup.hpp"

namespace claims {

namespace {

struct Run {
  const Task* task;
  const Method* method;
  double rate;
  std::uint64_t seed;
};

/// 1e-4 to 1e1, `per_decade` of them in each factor of ten.
std::vector<double> learning_rates(int per_decade) {
  std::vector<double> rates;
  for (int i = -4 * per_decade; i <= per_decade; ++i)
    rates.push_back(std::pow(10.0, static_cast<double>(i) / per_decade));
  return rates;
}

}  // namespace

void write_learning_rates(const Setup& setup) {
  const Options& options = setup.options;
  const std::vector<Method> all = methods();
  const int epochs = options.quick ? 1 : 50;
  const std::uint64_t seeds = options.quick ? 1 : 5;

  std::vector<Run> runs;
  for (const Task& task : setup.shifted)
    for (const Method& method : all)
      for (double rate : learning_rates(options.quick ? 1 : 3))
        for (std::uint64_t seed = 1; seed <= seeds; ++seed)
          runs.push_back({&task, &method, rate, seed});

  std::vector<Outcome> outcomes(runs.size());
  std::atomic<std::size_t> done{0};
  ether::detail::for_each_task(options.threads, runs.size(), [&](std::size_t i, int) {
    const Run& run = runs[i];
    outcomes[i] =
        run.method->run(setup.base, *run.task, epochs, static_cast<float>(run.rate), run.seed);
    const std::size_t tenth = std::max<std::size_t>(1, runs.size() / 10);
    if (const std::size_t count = ++done; count % tenth == 0)
      std::printf("          %zu of %zu runs\n", count, runs.size());
  });

  Csv csv(options.out + "/learning_rates.csv",
          "task,method,rate,seed,finite,validation,test,transform_distance,transform_bound,"
          "weight_distance,energy");
  for (std::size_t i = 0; i < runs.size(); ++i) {
    const Run& run = runs[i];
    const Outcome& o = outcomes[i];
    csv.row(run.task->name, run.method->name, run.rate, run.seed, int(o.finite), o.validation,
            o.test, o.transform_distance, o.transform_bound, o.weight_distance, o.energy);
  }
  csv.close();

  Csv list(options.out + "/methods.csv", "method,settings,parameters,epochs");
  for (const Method& method : all) {
    const auto run =
        std::find_if(runs.begin(), runs.end(), [&](const Run& r) { return r.method == &method; });
    list.row(method.name, method.settings, outcomes[run - runs.begin()].parameters, epochs);
  }
  list.close();
}

}  // namespace claims
