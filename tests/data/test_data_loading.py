"""From a config to prompts: where rows come from, and that no held-out question is trained on."""

import json
import sys

import pytest

from heron import data
from heron.config import DataConfig, load_config
from heron.errors import ConfigError, DataError, MissingExtra
from heron.types import Tags


def load(eval_size=4, seed=0, tags=None, **settings):
    return data.load(DataConfig(**settings), tags or Tags(), seed=seed, eval_size=eval_size)


def rows(first, count):
    return [{"question": f"What is {n} + 1?", "answer": f"<<{n}+1={n + 1}>>{n + 1}\n#### {n + 1}"}
            for n in range(first, first + count)]


def written(folder, name, content):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in content))
    return str(path)


@pytest.fixture
def gsm8k(tmp_path):
    """A folder in the layout of GSM8K's files, with a test question among the training rows."""
    written(tmp_path, "gsm8k/train.jsonl", [*rows(0, 20), {"question": " What is 103 + 1?\n", "answer": "#### 104"}])
    written(tmp_path, "gsm8k/test.jsonl", rows(100, 12))
    return str(tmp_path / "gsm8k")


def questions(prompts):
    return [prompt.question.strip() for prompt in prompts]


def test_a_folder_trains_on_train_and_holds_out_test(gsm8k):
    loaded = load(dataset=gsm8k)
    assert [prompt.id for prompt in loaded.train] == [f"train.jsonl:{n}" for n in range(1, 21)]
    assert [prompt.id for prompt in loaded.heldout] == ["test.jsonl:1", "test.jsonl:4", "test.jsonl:7", "test.jsonl:10"]
    assert loaded.heldout[0].answer == "101"


def test_held_out_questions_are_not_trained_on(gsm8k):
    """A leak raises the held-out accuracy without any learning; white space must not hide it."""
    loaded = load(dataset=gsm8k)
    assert set(questions(loaded.train)).isdisjoint(questions(loaded.heldout))
    assert loaded.dropped == 1
    assert load(dataset=gsm8k, eval_size=0).dropped == 0


def test_the_dataset_s_own_held_out_rows_do_not_depend_on_the_seed(gsm8k):
    """Two seeds measured on different problems could not be compared."""
    assert load(dataset=gsm8k, seed=1).heldout == load(dataset=gsm8k, seed=2).heldout


def test_a_small_test_split_is_used_whole(gsm8k):
    assert len(load(dataset=gsm8k, eval_size=1000).heldout) == 12


def test_a_subset_is_a_folder_in_the_folder(tmp_path, gsm8k):
    """Prevents: the folder's own files read in place of the subset's."""
    written(tmp_path, "gsm8k/socratic/train.jsonl", rows(50, 7))
    assert load(dataset=gsm8k, subset="socratic", eval_size=0).train[0].question == "What is 50 + 1?"


def test_shards_are_one_split_in_order(tmp_path):
    for shard in (1, 0, 2):
        written(tmp_path, f"d/data/train-{shard:05d}-of-00003.jsonl", rows(10 * shard, 2))
    loaded = load(dataset=str(tmp_path / "d"), eval_size=0)
    assert [prompt.columns["question"].split()[2] for prompt in loaded.train] == ["0", "1", "10", "11", "20", "21"]
    assert len({prompt.id for prompt in loaded.train}) == 6


def test_two_files_for_one_split_are_refused(tmp_path):
    """Choosing one of them silently trains on half of the data, or on old data."""
    written(tmp_path, "d/train.jsonl", rows(0, 5))
    written(tmp_path, "d/train.json", rows(0, 5))
    with pytest.raises(DataError, match=r"train.json, train.jsonl .* claim to be the split"):
        load(dataset=str(tmp_path / "d"))


def test_a_single_file_sets_rows_aside(tmp_path):
    """Without held-out rows the evaluation would measure memory."""
    path = written(tmp_path, "mine.jsonl", rows(0, 50))
    loaded = load(dataset=path, eval_size=4)
    assert len(loaded.heldout) == 4 and len(loaded.train) == 46 and loaded.dropped == 0
    assert set(questions(loaded.train)).isdisjoint(questions(loaded.heldout))
    assert load(dataset=path, eval_size=4) == loaded, "the same seed draws the same rows"
    assert load(dataset=path, eval_size=4, seed=1).heldout != loaded.heldout


def test_at_most_a_fifth_is_set_aside(tmp_path):
    """A short file would otherwise be used up by the evaluation."""
    path = written(tmp_path, "mine.jsonl", rows(0, 24))
    assert len(load(dataset=path, eval_size=64).heldout) == 4
    assert len(load(dataset=path, eval_size=64, limit=10).heldout) == 2


def test_too_few_rows_to_set_any_aside(tmp_path):
    path = written(tmp_path, "mine.jsonl", rows(0, 4))
    with pytest.raises(DataError, match=r"4 rows, too few .*evaluation.size=0"):
        load(dataset=path)
    assert len(load(dataset=path, eval_size=0).train) == 4


def test_repeated_questions_do_not_leak_when_rows_are_set_aside(tmp_path):
    """A question that is asked twice would be held out and trained on."""
    loaded = load(dataset=written(tmp_path, "mine.jsonl", rows(0, 10) * 3), eval_size=2)
    assert set(questions(loaded.train)).isdisjoint(questions(loaded.heldout))
    assert len(set(questions(loaded.heldout))) == 2
    assert (len(loaded.train), loaded.dropped) == (24, 4)


def test_one_question_alone_cannot_be_split(tmp_path):
    with pytest.raises(DataError, match="No row is left to train on"):
        load(dataset=written(tmp_path, "mine.jsonl", rows(0, 1) * 10))


def test_conversations_that_end_alike_are_different_questions(tmp_path):
    """`Go on.` would otherwise be one question, and nearly all rows would be dropped."""
    talks = [{"messages": [{"role": "user", "content": f"Count to {n}."}, {"role": "assistant", "content": "1"},
                           {"role": "user", "content": "Go on."}]} for n in range(10)]
    loaded = load(dataset=written(tmp_path, "mine.jsonl", talks), eval_size=2)
    assert (len(loaded.train), loaded.dropped) == (8, 0)


def test_held_out_rows_from_another_dataset(tmp_path, gsm8k):
    path = written(tmp_path, "other.jsonl", rows(18, 6))
    loaded = load(dataset=gsm8k, eval_dataset=path, eval_size=6)
    assert [prompt.id for prompt in loaded.heldout] == [f"other.jsonl:{n}" for n in range(1, 7)]
    assert (len(loaded.train), loaded.dropped) == (19, 2)


def test_training_on_the_evaluation_split_sets_rows_aside(gsm8k):
    """All rows would be held out and none left to train on."""
    loaded = load(dataset=gsm8k, split="test", eval_size=64)
    assert {prompt.id.split(":")[0] for prompt in (*loaded.train, *loaded.heldout)} == {"test.jsonl"}
    assert (len(loaded.train), len(loaded.heldout)) == (10, 2)


def test_limit_takes_the_first_rows_and_reads_no_further(tmp_path):
    path = written(tmp_path, "mine.jsonl", rows(0, 9))
    with open(path, "a") as file:
        file.write("broken\n")
    first = load(dataset=path, limit=3, eval_size=0).train
    assert [prompt.id for prompt in first] == ["mine.jsonl:1", "mine.jsonl:2", "mine.jsonl:3"]
    with pytest.raises(DataError, match=r"mine.jsonl:10: "):
        load(dataset=path, eval_size=0)


def test_the_system_prompt_reaches_both_parts_with_its_tags(gsm8k):
    """A prompt without the format's description is never answered in it."""
    tags = Tags(reasoning_start="<think>", reasoning_end="</think>")
    loaded = load(dataset=gsm8k, system_prompt="Use {reasoning_start}", tags=tags)
    for prompt in (*loaded.train, *loaded.heldout):
        assert prompt.messages[0] == {"role": "system", "content": "Use <think>"}
        assert len(prompt.messages) == 2


def test_generated_problems_are_disjoint_and_deterministic():
    """Held-out sums that are trained on would show learning where there is only memory."""
    loaded = load(limit=200, eval_size=50)
    assert (len(loaded.train), len(loaded.heldout), loaded.dropped) == (200, 50, 0)
    assert set(questions(loaded.train)).isdisjoint(questions(loaded.heldout))
    assert load(limit=200, eval_size=50) == loaded
    other = load(limit=200, eval_size=50, seed=1)
    assert other.heldout == loaded.heldout and other.train != loaded.train


def test_generated_problems_can_evaluate_a_run_on_a_file(gsm8k):
    loaded = load(dataset=gsm8k, eval_dataset="arithmetic")
    assert [prompt.id.split(":")[0] for prompt in loaded.heldout] == ["arithmetic"] * 4


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"dataset": "arithmatic"}, 'Did you mean "arithmetic"?'),
        ({"dataset": "{folder}/gsm8k/trian.jsonl"}, 'no such file or folder. Did you mean "train.jsonl"?'),
        ({"dataset": "{folder}/none/at/all.csv"}, "no such file or folder"),
        ({"dataset": "data/train.jsonl"}, "no such file or folder"),
        ({"dataset": "./a/b"}, "no such file or folder"),
        ({"dataset": ""}, 'no dataset "": no such file or folder'),
        ({"dataset": "{folder}/gsm8k", "split": "trian"}, 'has no split "trian". Did you mean "train"?'),
        ({"dataset": "{folder}/gsm8k", "prompt_column": "task"}, 'train.jsonl:1 has no column "task"'),
        ({"dataset": "{folder}/empty.jsonl"}, "empty.jsonl is empty"),
        ({"dataset": "{folder}/hollow"}, "hollow is empty: there is no row in its split"),
        ({"dataset": "{folder}/bare"}, "has no file that can be read"),
        ({"dataset": "{folder}/notes.txt"}, "not of a kind that can be read"),
        ({"eval_dataset": "{folder}/gsm8k", "eval_split": "dev"}, 'has no split "dev". It has test, train.'),
    ],
)
def test_unusable_datasets_are_refused(tmp_path, gsm8k, settings, words, monkeypatch):
    """Each of these is found before a model is loaded, and says what to do."""
    (tmp_path / "bare").mkdir()
    (tmp_path / "notes.txt").write_text("hello")
    written(tmp_path, "empty.jsonl", [])
    written(tmp_path, "hollow/train.jsonl", [])
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")
    with pytest.raises(DataError) as error:
        load(**{key: value.format(folder=tmp_path) for key, value in settings.items()})
    assert words in str(error.value)


def test_a_folder_saved_by_datasets(tmp_path):
    library = pytest.importorskip("datasets")
    parts = {"train": library.Dataset.from_list(rows(0, 10)), "test": library.Dataset.from_list(rows(100, 3))}
    library.DatasetDict(parts).save_to_disk(str(tmp_path / "divided"))
    loaded = load(dataset=str(tmp_path / "divided"), eval_size=2)
    assert [loaded.train[0].id, loaded.heldout[0].id] == ["train:1", "test:1"]
    assert loaded.train[0].answer == "1" and len(loaded.train) == 10
    parts["train"].save_to_disk(str(tmp_path / "whole"))
    assert len(load(dataset=str(tmp_path / "whole"), eval_size=2).heldout) == 2


def test_a_hub_id_is_left_to_the_library(monkeypatch):
    library = pytest.importorskip("datasets")
    asked = []

    def fetch(name, subset):
        asked.append((name, subset))
        make = library.Dataset.from_list
        return library.DatasetDict(train=make(rows(0, 5)), test=make(rows(9, 2)))

    monkeypatch.setattr(library, "load_dataset", fetch)
    loaded = load(dataset="openai/gsm8k", subset="main", eval_size=2)
    assert asked == [("openai/gsm8k", "main")]
    assert (len(loaded.train), len(loaded.heldout)) == (5, 2)


@pytest.mark.parametrize("failure", [ConnectionError("offline"), ValueError("no config"), FileNotFoundError("gone")])
def test_what_the_hub_refuses_is_a_data_error(monkeypatch, failure):
    """A long traceback of the library would end the first try of every newcomer without a network."""
    library = pytest.importorskip("datasets")

    def fetch(name, subset):
        raise failure

    monkeypatch.setattr(library, "load_dataset", fetch)
    with pytest.raises(DataError, match=f'"openai/gsm8k".*not a file or folder here.*{failure}'):
        load(dataset="openai/gsm8k")


def test_a_hub_id_without_the_library_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingExtra, match=r"openai/gsm8k.*heron-rl\[hub\]"):
        load(dataset="openai/gsm8k")


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"split": "validation"}, "data.split is 'validation', but arithmetic is generated"),
        ({"subset": "main"}, "data.subset is 'main', but arithmetic is generated"),
        ({"prompt_column": "task"}, "data.prompt_column is 'task', but arithmetic is generated"),
        ({"answer_column": "gold", "eval_dataset": "arithmetic"}, "data.answer_column is 'gold', but arithmetic is generated"),
        ({"eval_split": "dev"}, "data.eval_split is 'dev', but a generated dataset is not divided"),
        ({"dataset": "{folder}/mine.jsonl", "split": "nonsense"}, "mine.jsonl is not divided into splits"),
        ({"dataset": "{folder}/mine.jsonl", "eval_split": "dev"}, "mine.jsonl is not divided into splits"),
        ({"dataset": "{folder}/mine.jsonl", "eval_dataset": "{folder}/mine.jsonl", "eval_split": "dev"}, "data.eval_split is 'dev'"),
        ({"dataset": "{folder}/mine.jsonl", "eval_dataset": "arithmetic", "eval_split": "dev"}, "a generated dataset is not divided"),
        ({"dataset": "{folder}/mine.jsonl", "subset": "main"}, 'mine.jsonl is a single file, which has no subsets. Leave it out'),
        ({"dataset": "{folder}/mine.jsonl", "digits": 4}, "data.digits is 4, but no additions are generated"),
        ({"dataset": "{folder}/gsm8k", "eval_split": "tets"}, 'has no split "tets". Did you mean "test"?'),
        ({"dataset": "{folder}/gsm8k", "eval_split": "dev"}, 'has no split "dev". It has test, train.'),
        ({"dataset": "{folder}/gsm8k", "subset": "main"}, 'has no subset "main": no folder of that name'),
        ({"dataset": "{folder}/parts", "subset": "socratik"}, 'Did you mean "socratic"?'),
        ({"dataset": "{folder}/parts", "subset": "x"}, "Its subsets are main, socratic (data.subset)."),
        ({"dataset": "{folder}/parts"}, "has no file that can be read. The kinds are"),
        ({"dataset": "{folder}/parts"}, "Its subsets are main, socratic (data.subset)."),
    ],
)
def test_a_setting_that_could_do_nothing_is_refused(tmp_path, gsm8k, settings, words):
    """A misspelt or misplaced setting that is passed over trains or evaluates on other rows than were asked for."""
    written(tmp_path, "mine.jsonl", rows(0, 30))
    for subset in ("main", "socratic"):
        written(tmp_path, f"parts/{subset}/train.jsonl", rows(0, 5))
    with pytest.raises((ConfigError, DataError)) as error:
        load(**{key: value.format(folder=tmp_path) if isinstance(value, str) else value for key, value in settings.items()})
    assert words in str(error.value)


def test_settings_that_some_rows_use_are_kept(tmp_path, gsm8k):
    """Columns may be those of the held-out rows, and digits those of generated ones, in a run on other rows."""
    task = written(tmp_path, "task.jsonl", [{"task": f"{n} + 1?", "gold": str(n + 1)} for n in range(5)])
    loaded = load(eval_dataset=task, prompt_column="task", answer_column="gold", digits=2, limit=20)
    assert loaded.heldout[0].answer == "1"
    assert load(dataset=gsm8k, eval_dataset="arithmetic", digits=4).heldout[0].columns["left"] > 999
    assert load(dataset=gsm8k, split="test", eval_split="train", eval_size=3).heldout[0].id == "train.jsonl:1"
    assert load(dataset=gsm8k, split="test", eval_split="test", eval_size=2).train
    assert load(dataset=gsm8k, eval_dataset=gsm8k, eval_split="train", split="test").heldout[0].id == "train.jsonl:1"


def test_the_gsm8k_recipe_reads_local_copies(tmp_path, gsm8k):
    """Its subset of the hub's dataset must keep nobody from training on files."""
    written(tmp_path, "mine.jsonl", rows(0, 30))
    for dataset, first in ((gsm8k, "train.jsonl:1"), (str(tmp_path / "mine.jsonl"), "mine.jsonl:"), ("arithmetic", "arithmetic:")):
        config = load_config("gsm8k", {"data": {"dataset": dataset}})
        loaded = data.load(config.data, config.tags, seed=0, eval_size=4)
        assert loaded.train[0].id.startswith(first) and len(loaded.heldout) == 4


def test_a_saved_dataset_has_no_subsets(tmp_path):
    library = pytest.importorskip("datasets")
    library.Dataset.from_list(rows(0, 10)).save_to_disk(str(tmp_path / "whole"))
    with pytest.raises(ConfigError, match="saved dataset, which has no subsets"):
        load(dataset=str(tmp_path / "whole"), subset="main")
    with pytest.raises(ConfigError, match="not divided into splits"):
        load(dataset=str(tmp_path / "whole"), split="dev")


def test_dropped_counts_training_rows_alone(tmp_path):
    """The count that the run shows: rows taken out of training, not those held out, whichever way they were."""
    other = written(tmp_path, "other.jsonl", [*rows(0, 2), *rows(0, 2), *rows(500, 3)])
    path = written(tmp_path, "mine.jsonl", [*rows(0, 10), *rows(0, 1)])
    loaded = load(dataset=path, eval_dataset=other, eval_size=100)
    assert (len(loaded.train), len(loaded.heldout), loaded.dropped) == (8, 7, 3)
    assert load(dataset=path, eval_dataset=other, eval_size=100, limit=5).dropped == 2
    assert load(dataset=path, eval_dataset=other, eval_size=0).dropped == 0
