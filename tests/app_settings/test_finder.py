from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from celeriac.app.finder import autodiscover, find_app, load_symbol
from celeriac.errors import ConfigError


class App:
    """Stands for the application class."""

    def __init__(self, name: str = "") -> None:
        self.name = name


HEAD = f"from {__name__} import App\n"


class Project:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, text: str = "") -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        for folder in path.relative_to(self.folder).parents:
            (self.folder / folder / "__init__.py").touch() if str(folder) != "." else None
        path.write_text(text)

    def find(self, text: str) -> App:
        return find_app(text, App, workdir=str(self.folder))


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    modules, path = dict(sys.modules), list(sys.path)
    monkeypatch.setitem(sys.modules, __name__, sys.modules[App.__module__])
    yield Project(tmp_path)
    for name in set(sys.modules) - set(modules):
        del sys.modules[name]
    sys.path[:] = path
    sys.path_importer_cache.clear()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("shop_a", "app"),
        ("shop_a:other", "other"),
        ("shop_a:holder.inner", "inner"),
        ("shop_a.other", "other"),
        ("shop_a:create_app", "made"),
        ("shop_a:create_app()", "made"),
        ("shop_a:create_once", "once"),
        (" shop_a ", "app"),
    ],
)
def test_module_and_attribute(project: Project, text: str, name: str) -> None:
    project.write(
        "shop_a.py",
        HEAD + "app = App('app')\nother = App('other')\nclass holder:\n    inner = App('inner')\n"
        "def create_app(): return App('made')\nimport functools\ncreate_once = functools.cache(lambda: App('once'))\n",
    )
    assert project.find(text).name == name
    assert sys.path[0] == str(project.folder)


def test_order_in_a_module(project: Project) -> None:
    project.write("shop_b.py", HEAD + "one = App('one')\ncelery = App('celery')\n")
    assert project.find("shop_b").name == "celery"
    project.write("shop_c.py", HEAD + "one = App('one')\nagain = one\n")
    assert project.find("shop_c").name == "one"
    project.write("shop_d.py", HEAD + "app = object()\nreal = App('real')\n")
    assert project.find("shop_d").name == "real", "an `app` of another framework is not ours"


def test_submodule_celery(project: Project) -> None:
    project.write("shop_e/celery.py", HEAD + "queue = App('below')\n")
    assert project.find("shop_e").name == "below"
    assert project.find("shop_e.celery").name == "below"
    assert project.find("shop_e:celery").name == "below"
    project.write("shop_f/__init__.py", HEAD + "app = App('here')\n")
    assert project.find("shop_f").name == "here"
    project.write("shop_g/sub/deep.py", HEAD + "app = App('deep')\n")
    assert project.find("shop_g.sub.deep").name == "deep"
    project.write("shop_h/app.py", HEAD + "x = App('in module app')\n")
    project.write("shop_h/__init__.py", HEAD + "from shop_h import app\nonly = App('only')\n")
    assert project.find("shop_h").name == "only", "`app` that is a module is passed over"
    assert project.find("shop_h:app").name == "in module app"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "does not name an application; write module or module:attribute"),
        (":app", "does not name an application"),
        ("shop_x:", "does not name an application"),
        (".shop_x", "does not name an application"),
        ("shop_x.py", "is a file name; give the module's name: shop_x"),
        ("./dir/shop_x.py:app", "is a file name; give the module's name: dir.shop_x:app"),
        ("shop_x:ap", "'shop_x:ap': 'shop_x' has no attribute 'ap'; did you mean 'app'?"),
        ("shop_x:app.name.more", "has no attribute 'more'"),
        ("shop_x:three", "'shop_x:three' is of type int, not a App application"),
        ("shop_x:three", "; is it shop_x:app?"),
        ("shop_x:task", "'shop_x:task' is of type Task, not a App application; is it shop_x:app?"),
        ("shop_x:needs", "cannot be called without arguments"),
        ("shop_x:wrong()", "was called and returned an object of type int"),
        ("shop_xx", "there is no module 'shop_xx'"),
        ("shop_xx", "did you mean 'shop_x'"),
        ("shop_p.nothing", "there is no module 'shop_p.nothing'; its package 'shop_p' is in"),
        ("shop_x.nothing", "there is no module 'shop_x.nothing'"),
        ("shop_two", "has 2 applications: one, two; say which: shop_two:one"),
        ("shop_none", "has no App application; found in it: app (of type int)"),
        ("shop_none", "is it shop_none:create_app()?"),
        ("shop_p", "has no App application; found in it: nothing"),
        ("shop_need", "exists, but importing it failed"),
        ("shop_need", "No module named 'not_installed_here'"),
        ("shop_syntax", "shop_syntax.py:2): SyntaxError"),
        ("shop_raises", "shop_raises.py:1): ZeroDivisionError"),
        ("shop_q", "module 'shop_q.celery' exists, but importing it failed"),
        ("shop_self", "exists, but importing it failed"),
    ],
)
def test_errors_say_what_was_tried_and_found(project: Project, text: str, says: str) -> None:
    project.write(
        "shop_x.py",
        HEAD + "app = App('app')\nthree = 3\ndef needs(x): return App(x)\ndef wrong(): return 3\n"
        "class Task:\n    def __call__(self, a, b): raise AssertionError('called')\ntask = Task()\n",
    )
    project.write("shop_p/__init__.py")
    project.write("shop_two.py", HEAD + "one = App('1')\ntwo = App('2')\n")
    project.write("shop_none.py", "app = 3\ndef create_app(): ...\n")
    project.write("shop_need.py", "import not_installed_here\n")
    project.write("shop_syntax.py", "\nthis is no python\n")
    project.write("shop_raises.py", "1 / 0\n")
    project.write("shop_q/celery.py", "import not_installed_here\n")
    project.write("shop_self.py", "raise ModuleNotFoundError('x', name='shop_self')\n")
    with pytest.raises(ConfigError) as caught:
        project.find(text)
    assert says in str(caught.value)


def test_errors_inside_a_factory_and_settings_errors_travel(project: Project) -> None:
    project.write(
        "shop_y.py",
        HEAD + "def fails(): return len(3)\ndef config():\n    from celeriac.errors import ConfigError\n"
        "    raise ConfigError('unknown setting')\n",
    )
    with pytest.raises(TypeError, match="has no len"):
        project.find("shop_y:fails")
    with pytest.raises(ConfigError, match=r"^unknown setting$"):
        project.find("shop_y:config")
    project.write("shop_z.py", "from celeriac.errors import ConfigError\nraise ConfigError('unknown setting')\n")
    with pytest.raises(ConfigError, match=r"^unknown setting$"):
        project.find("shop_z")


def test_symbols(project: Project) -> None:
    assert load_symbol("os.path:join", "x") is load_symbol("os.path.join", "x")
    assert load_symbol("os.path", "x").__name__ in ("posixpath", "ntpath")
    assert load_symbol("collections:OrderedDict.fromkeys", "x")
    for text in ("", "a b", "os:", "..os", "os/path"):
        with pytest.raises(ConfigError, match="task_routes: "):
            assert load_symbol(text, "task_routes") is None
    with pytest.raises(ConfigError, match="there is no module 'nowhere_x'"):
        load_symbol("nowhere_x.y", "x")


def test_autodiscover(project: Project) -> None:
    project.write("disc_a/tasks.py", "loaded = True\n")
    project.write("disc_b/__init__.py")
    project.write("disc_c.py")
    project.write("disc_d/apps.py", "class Config:\n    name = 'disc_d'\n")
    project.write("disc_d/tasks.py")
    sys.path.insert(0, str(project.folder))
    names = ["disc_a", "disc_b", "disc_c", "disc_d.apps.Config"]
    assert autodiscover(names) == ["disc_a.tasks", "disc_d.tasks"]
    assert sys.modules["disc_a.tasks"].loaded is True
    assert autodiscover(names, "nothing_of_the_kind") == []
    assert autodiscover(["disc_a", "disc_b"], None) == ["disc_a", "disc_b"]


@pytest.mark.parametrize(
    ("package", "says"),
    [
        ("disc_missing", "there is no module 'disc_missing'"),
        ("disc_e", "module 'disc_e.tasks' exists, but importing it failed .*not_installed_here"),
        ("disc_f", "module 'disc_f' exists, but importing it failed"),
        ("disc_g.apps.Nothing", r"there is no module 'disc_g\.apps\.Nothing'"),
    ],
)
def test_autodiscover_hides_no_error(project: Project, package: str, says: str) -> None:
    project.write("disc_e/tasks.py", "import not_installed_here\n")
    project.write("disc_f/__init__.py", "1 / 0\n")
    project.write("disc_g/apps.py")
    sys.path.insert(0, str(project.folder))
    with pytest.raises(ConfigError, match=says):
        autodiscover([package])
