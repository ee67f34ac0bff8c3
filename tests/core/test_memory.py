"""What does not fit into memory is refused before it is made, in one line with a number."""

import re

import pytest
import torch
from command import call

from ppl_gen import critics, memory, models, priors
from ppl_gen.inference import (
    IWAE,
    ais,
    bdmc,
    classifier_test,
    collapse,
    compare,
    elbo,
    hmc,
    log_evidence,
    moments,
    nuts,
    sbc,
    sliced_wasserstein,
    svi_step,
    two_sample_test,
)
from ppl_gen.memory import available, expect_memory, in_bytes, is_exhausted, shortage
from ppl_gen.program import simulate

MANY = 10**9


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with 128 MB free, on which all that follows is too large."""
    monkeypatch.setattr(memory, "available", lambda device=None: 2**27)


@pytest.fixture(scope="module")
def vae() -> models.VAE:
    return models.vae((3,), 2, hidden=(4,))


X = torch.zeros(3, 3)
POINTS = torch.arange(60.0).reshape(20, 3).sin()

NETWORKS = {
    "vae": lambda: models.vae((3,), MANY),
    "vae, hidden": lambda: models.vae((3,), 2, hidden=(MANY,)),
    "vae, image": lambda: models.vae((1, 10**5, 10**5), 2),
    "cvae": lambda: models.cvae((3,), 2, classes=MANY),
    "conv_vae": lambda: models.conv_vae((1, 8, 8), MANY),
    "conv_vae, hidden": lambda: models.conv_vae((1, 8, 8), 2, hidden=MANY),
    "gan": lambda: models.gan((3,), MANY),
    "dcgan": lambda: models.dcgan((1, 8, 8), MANY),
    "dcgan, width": lambda: models.dcgan((1, 8, 8), 2, width=10**6),
    "infogan, categories": lambda: models.infogan((3,), 2, categories=MANY),
    "infogan, continuous": lambda: models.infogan((3,), 2, continuous=MANY),
    "translator": lambda: models.cycle_gan(
        torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 8, 8), width=10**6
    ),
    "translator, large": lambda: models.cycle_gan(
        torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 64, 64), width=10**6
    ),
    "critic": lambda: critics.mlp_critic((3,), hidden=(MANY,)),
    "conv_critic": lambda: critics.conv_critic((1, 8, 8), width=10**6),
    "patch_critic": lambda: critics.patch_critic(1, width=10**6),
    "StandardNormal": lambda: priors.StandardNormal(MANY),
    "Uniform": lambda: priors.Uniform(MANY),
    "OneHot": lambda: priors.OneHot(MANY),
}


@pytest.mark.parametrize("build", NETWORKS.values(), ids=NETWORKS)
def test_networks_beyond_memory_are_not_built(build) -> None:
    with pytest.raises(ValueError, match=r"fit into memory, of which 134 MB are free, got .*take"):
        build()


def test_a_size_beyond_64_bits_is_none() -> None:
    with pytest.raises(ValueError, match=r"expected a layer's size below 2⁶³, got 20{20}$"):
        models.vae((3,), 10**20)


CALLS = {
    "log_evidence, chunk": lambda p: log_evidence(p, None, X, particles=MANY, chunk=MANY),
    "log_evidence, largest weights": lambda p: log_evidence(p, None, X, particles=10**15),
    "elbo, chunk": lambda p: elbo(p, None, X, particles=MANY, chunk=MANY),
    "ais, chains": lambda p: ais(p, X, chains=MANY),
    "ais, temperatures": lambda p: ais(p, X, temperatures=MANY),
    "bdmc": lambda p: bdmc(p, 3, chains=MANY),
    "hmc, chains": lambda p: hmc(p.model, X, chains=MANY),
    "hmc, local": lambda p: hmc(p.model, X, chains=MANY, local=True),
    "hmc, draws": lambda p: hmc(p.model, X, draws=MANY, chains=1),
    "hmc, warmup": lambda p: hmc(p.model, X, draws=1, warmup=MANY, chains=1),
    "nuts, draws": lambda p: nuts(p.model, X, draws=MANY, chains=1),
    "nuts, chains": lambda p: nuts(p.model, X, draws=1, chains=MANY),
    "compare, chains": lambda p: compare(p, None, X, chains=MANY),
    "compare, guide_draws": lambda p: compare(p, None, X, guide_draws=MANY),
    "collapse": lambda p: collapse(p, None, X, particles=MANY),
    "sbc": lambda p: sbc(p, n=20, draws=MANY),
    "svi_step": lambda p: svi_step(p, torch.optim.Adam(p.parameters()), IWAE(MANY))(X),
    "two_sample_test": lambda p: two_sample_test(POINTS, POINTS + 1, permutations=MANY),
    "classifier_test": lambda p: classifier_test(POINTS, POINTS + 1, permutations=MANY),
    "moments": lambda p: moments(POINTS, POINTS + 1, permutations=MANY),
    "sliced_wasserstein": lambda p: sliced_wasserstein(POINTS, POINTS + 1, projections=MANY),
}


@pytest.mark.parametrize("call", CALLS.values(), ids=CALLS)
def test_draws_beyond_memory_are_not_begun(call, vae: models.VAE) -> None:
    with pytest.raises(ValueError, match=r"fit into memory, of which 134 MB are free, got .*take"):
        call(vae)


def test_counts_beyond_64_bits_are_refused(vae: models.VAE) -> None:
    with pytest.raises(ValueError, match=r"expected particles below 2⁶³, got 10{30}"):
        log_evidence(vae, None, X, particles=10**30)


def test_seeds_beyond_what_torch_takes_are_refused(vae: models.VAE) -> None:
    with pytest.raises(ValueError, match="expected a seed from 0 to 2⁶³"):
        log_evidence(vae, None, X, particles=2, seed=2**64)


COMMANDS = {
    "--latent-dim": "fit vae --latent-dim 1000000000",
    "--latent-dim beyond 64 bits": f"fit vae --latent-dim {10**20}",
    "--particles": "fit vae --particles 1000000000",
    "--width": "fit dcgan --width 1000000",
    "--categories": "fit infogan --categories 1000000000",
    "--continuous": "fit infogan --continuous 1000000000",
    "--chains": "compare eight-schools --chains 1000000000",
    "--draws": "compare eight-schools --draws 1000000000",
    "--warmup": "compare eight-schools --warmup 1000000000",
}


@pytest.mark.parametrize("words", COMMANDS.values(), ids=COMMANDS)
def test_the_command_refuses_what_does_not_fit_into_memory(words: str, tmp_path) -> None:
    folder = tmp_path / "run"
    code, said = call(*words.split(), "--out", folder)
    assert code == 2, said
    assert re.search("fit into memory, of which 134 MB are free, got|below 2⁶³", said)
    assert "=..." not in said
    assert not folder.exists()


def test_adams_averages_are_estimated_as_well(tmp_path) -> None:
    """Weights of 48 MB fit into 134 MB, but not with their gradients and two averages."""
    folder = tmp_path / "run"
    code, said = call("fit", "vae", "--latent-dim", 20_000, "--out", folder)
    assert code == 2, said
    assert "gradients of all weights, and the optimiser's averages of them" in said
    assert not folder.exists()


def test_what_was_not_foreseen_is_one_line_too(monkeypatch, tmp_path) -> None:
    def exhausted(*args, **options):
        raise RuntimeError(
            "[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate "
            "memory: you tried to allocate 8000000000000 bytes. Error code 12"
        )

    monkeypatch.setattr("ppl_gen.app.configure.configure", exhausted)
    code, said = call("fit", "vae", "--out", tmp_path / "run")
    assert code == 2
    assert "got 8 TB for one array; take fewer or smaller: --limit" in said


@pytest.mark.parametrize(
    "error", [MemoryError(), OverflowError("Python int too large to convert to C long")]
)
def test_errors_of_memory_are_known(error: Exception) -> None:
    assert is_exhausted(error)
    assert "more than there is" in shortage(error)
    assert not is_exhausted(ValueError("expected something else"))


def test_draws_of_a_program_that_run_out_of_memory_say_so(vae: models.VAE) -> None:
    """10¹⁷ draws are beyond what any allocator takes."""
    with pytest.raises(ValueError, match="to fit into memory, got 800 PB for one array; take"):
        simulate(vae, 10**17)


def test_bytes_are_said_for_people() -> None:
    said = [in_bytes(count) for count in (999, 1000, 3_210_000, 10**13, 10**30)]
    assert said == ["999 bytes", "1 kB", "3.21 MB", "10 TB", "1e+12 EB"]


def test_little_is_granted_without_a_look(monkeypatch) -> None:
    monkeypatch.setattr(memory, "available", lambda device=None: 0)
    expect_memory("a few numbers", 2**26, "take fewer")
    with pytest.raises(ValueError, match="expected numbers to fit into memory"):
        expect_memory("numbers", 2**26 + 1, "take fewer")


def test_a_control_group_has_what_it_and_those_above_it_leave(tmp_path) -> None:
    """4 GB above of which 3 are held, 0.2 of them by files; below no limit, then 1 of 2 GB held."""
    for name, most, held, files in (
        ("", "4000000000", "3000000000", "200000000"),
        ("a", "max", "1000000000", "0"),
        ("a/b", "2000000000", "1000000000", "0"),
    ):
        group = tmp_path / name
        group.mkdir(exist_ok=True)
        (group / "memory.max").write_text(f"{most}\n")
        (group / "memory.current").write_text(f"{held}\n")
        (group / "memory.stat").write_text(f"anon 1\ninactive_file {files}\n")
    groups = memory._SECOND._replace(top=tmp_path)
    assert memory._free_of_group(groups, tmp_path / "a" / "b") == 10**9
    assert memory._free_of_group(groups, tmp_path / "a") == 1_200_000_000
    assert memory._free_of_group(memory._FIRST, tmp_path / "none") > 10**17


def test_the_memory_that_is_free_is_known_here() -> None:
    """The least of what machine, control group and limits leave: between 100 MB and 100 TB."""
    assert 10**8 < available() < 10**14
