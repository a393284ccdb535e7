/// Parameter counts and FLOPs of the paper's models, from shapes, beside the published numbers.

#include "counts.hpp"

#include "csv.hpp"
#include "flop_model.hpp"
#include "setup.hpp"

#include <limits>

namespace claims {

namespace {

constexpr double tera = 1e12;

struct Contestant {
  std::string method, settings;
  std::function<Cost(const Shape&)> cost;
  std::function<double(const Shape&, Index blocks)> weight_space;  // FLOPs per forward, or empty
};

std::vector<Contestant> contestants() {
  using ether::Variant;
  return {
      {"ETHER", "input side", [](const Shape& s) { return paper_cost(s, Variant::ether); },
       [](const Shape& s, Index n) { return transform_flops(s, "ETHER", n, Pass::forward); }},
      {"ETHER+", "both sides", [](const Shape& s) { return paper_cost(s, Variant::ether_plus); },
       [](const Shape& s, Index n) { return transform_flops(s, "ETHER+", n, Pass::forward); }},
      {"OFT n=256", "input side", [](const Shape& s) { return oft_cost(s, 256); }, nullptr},
      {"LoRA r=8", "", [](const Shape& s) { return lora_cost(s, 8); }, nullptr},
      {"VeRA r=64", "A and B frozen and shared", [](const Shape& s) { return vera_cost(s, 64); },
       nullptr}};
}

double published_parameters(const LanguageModel& model, Adapted adapted,
                            const std::string& method) {
  if (model.name == "Llama-2-7B" && adapted == Adapted::query_value)
    for (const PublishedCount& count : published_counts())
      if (count.method == method) return 1e6 * count.millions;
  return std::numeric_limits<double>::quiet_NaN();
}

/// Sums over the adapted layers. Weight-space FLOPs are those of a forward pass, NaN where the
/// method has none.
void write_adapters(const std::string& path) {
  Csv csv(path,
          "model,adapted,method,settings,parameters,published_parameters,flops_per_token,"
          "weight_space_n1,weight_space_n4,weight_space_n32");
  for (const LanguageModel& model : {llama_2_7b(), phi_1_5()})
    for (Adapted adapted :
         {Adapted::query_value, Adapted::query_key_value_output, Adapted::all_linear})
      for (const Contestant& contestant : contestants()) {
        const double layers = static_cast<double>(model.layers);
        Cost sum;
        double weight_space[3] = {};
        for (const Shape& shape : adapted_linears(model, adapted)) {
          const Cost one = contestant.cost(shape);
          sum.parameters += layers * one.parameters;
          sum.flops_per_token += layers * one.flops_per_token;
          for (int i = 0; i < 3; ++i)
            weight_space[i] += contestant.weight_space
                                   ? layers * contestant.weight_space(shape, i == 0   ? 1
                                                                             : i == 1 ? 4
                                                                                      : 32)
                                   : std::numeric_limits<double>::quiet_NaN();
        }
        csv.row(model.name, to_string(adapted), contestant.method, contestant.settings,
                sum.parameters, published_parameters(model, adapted, contestant.method),
                sum.flops_per_token, weight_space[0], weight_space[1], weight_space[2]);
      }
  csv.close();
}

/// Mean of |ours / published - 1| over the published numbers of a model: a single number that does
/// not fit counts for no more than its difference.
double misfit(const LanguageModel& model, const FlopModel& of) {
  const std::vector<PublishedFlops> published = published_flops(model);
  double sum = 0;
  for (const PublishedFlops& p : published)
    sum += std::abs(pass_flops(model, of, p.method, p.blocks) / (tera * p.tera) - 1);
  return sum / static_cast<double>(published.size());
}

/// Every combination of what is left open, each with the number of tokens, of the multiples of 64,
/// that comes closest to the published numbers.
std::vector<FlopModel> search(const LanguageModel& model) {
  std::vector<FlopModel> found;
  for (Pass pass : {Pass::forward, Pass::training})
    for (Adapted adapted :
         {Adapted::query_value, Adapted::query_key_value_output, Adapted::all_linear})
      for (Counted counted :
           {Counted::linears, Counted::and_head, Counted::and_head_and_attention}) {
        FlopModel best{pass, adapted, counted, 64};
        double least = misfit(model, best);
        for (Index tokens = 128; tokens <= 4096; tokens += 64) {
          const FlopModel next{pass, adapted, counted, tokens};
          if (const double value = misfit(model, next); value < least) best = next, least = value;
        }
        found.push_back(best);
      }
  return found;
}

/// The search, and the published numbers beside those of the best model found.
void write_search(const Options& options) {
  Csv models(options.out + "/flop_models.csv", "model,pass,adapted,counted,tokens,misfit");
  Csv flops(options.out + "/pass_flops.csv",
            "model,pass,adapted,counted,tokens,method,blocks,published,ours,on_activations");
  const auto by_published = [&](const LanguageModel& model, const FlopModel& of) {
    for (const PublishedFlops& p : published_flops(model))
      flops.row(model.name, to_string(of.pass), to_string(of.adapted), to_string(of.counted),
                of.tokens, p.method, p.blocks, p.tera,
                pass_flops(model, of, p.method, p.blocks) / tera,
                activation_pass_flops(model, of, p.method) / tera);
  };
  for (const LanguageModel& model : {llama_2_7b(), phi_1_5()}) {
    std::vector<FlopModel> found = search(model);
    for (const FlopModel& of : found)
      models.row(model.name, to_string(of.pass), to_string(of.adapted), to_string(of.counted),
                 of.tokens, misfit(model, of));
    const auto closer = [&](const FlopModel& a, const FlopModel& b) {
      return misfit(model, a) < misfit(model, b);
    };
    const auto training = std::find_if(
        found.begin(), found.end(), [](const FlopModel& of) { return of.pass == Pass::training; });
    by_published(model, *std::min_element(found.begin(), training, closer));
    by_published(model, *std::min_element(training, found.end(), closer));
  }
  models.close();
  flops.close();
}

/// What depends on n: total(n=4) - total(n=32), in which the frozen model and the number of tokens
/// drop out.
void write_block_flops(const std::string& path) {
  Csv csv(path, "model,method,published,pass,adapted,ours");
  for (const LanguageModel& model : {llama_2_7b(), phi_1_5()})
    for (const char* method : {"ETHER", "ETHER+"}) {
      double published = 0;
      for (const PublishedFlops& p : published_flops(model))
        if (p.method == method) published += p.blocks == 4 ? p.tera : p.blocks == 32 ? -p.tera : 0;
      for (Pass pass : {Pass::forward, Pass::training})
        for (Adapted adapted :
             {Adapted::query_value, Adapted::query_key_value_output, Adapted::all_linear}) {
          const FlopModel of{pass, adapted, Counted::linears, 1};
          const double ours = pass_flops(model, of, method, 4) - pass_flops(model, of, method, 32);
          csv.row(model.name, method, published, to_string(pass), to_string(adapted), ours / tera);
        }
    }
  csv.close();
}

}  // namespace

void write_counts(const Options& options) {
  write_adapters(options.out + "/counts.csv");
  write_search(options);
  write_block_flops(options.out + "/block_flops.csv");
}

}  // namespace claims
