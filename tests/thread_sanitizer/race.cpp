// race clean: threads that share data in turn, the OpenMP runtime keeping order between them.
// race racy:  threads that write to one variable at once.
#include <cstdio>
#include <cstring>
#include <thread>
#include <vector>

constexpr int count = 10000;

void clean(std::vector<double>& data) {
  std::vector<double> part(4);
  for (int turn = 0; turn < 20; ++turn) {
#ifdef _OPENMP
#pragma omp parallel for num_threads(4)
#endif
    for (int i = 0; i < count; ++i) data[i] = 0.5 * data[i] + turn;
#ifdef _OPENMP
#pragma omp parallel for num_threads(4) schedule(dynamic)
#endif
    for (int p = 0; p < 4; ++p) {
      part[p] = 0;
      for (int i = p; i < count; i += 4) part[p] += data[i];
    }
    data[0] = part[0] + part[1] + part[2] + part[3];
  }
}

void racy(std::vector<double>& data) {
#ifdef _OPENMP
#pragma omp parallel for num_threads(4)
#endif
  for (int i = 0; i < count; ++i) data[0] += i;
}

int main(int argc, char** argv) {
  const bool is_racy = argc > 1 && std::strcmp(argv[1], "racy") == 0;
  std::vector<double> first(count, 1.0);
  std::vector<double> second(count, 1.0);
  std::thread other([&] { is_racy ? racy(first) : clean(second); });
  is_racy ? racy(first) : clean(first);
  other.join();
  std::printf("%g %g\n", first[0], second[0]);
}
