"""Expressions of the canvas, by name: for a namespace of `canvas_app`, of either side, each gives a signature to be
called, or the result of what it has called itself. Both sides import this file; it imports neither.
"""

# ruff: noqa: E501 - an expression is read best on one line

from itertools import product

KINDS = ("task", "chain", "group", "chain-group", "chord", "twice", "boom", "linked", "immutable")
"""What `become` may become."""

TABLE = {
    # -- one task and what hangs on it ---------------------------------------------------------------------------
    "task": lambda w: w.add.s(1, 2),
    "task, partial": lambda w: w.add.s(2).apply_async((1,)),
    "task, partial keyword": lambda w: w.add.s(y=2).apply_async((1,), {"y": 3}),
    "task, immutable": lambda w: w.add.si(1, 2).apply_async((5,)),
    "task, cloned with more": lambda w: w.add.s(2).clone((1,)),
    "task, by name": lambda w: w.app.signature("canvas.add", args=(1, 2)),
    "task, from its dict": lambda w: w.signature(dict(w.add.s(1, 2)), app=w.app),
    "task, id given": lambda w: w.add.s(1, 2).set(task_id="task-id-given"),
    "task, fails": lambda w: w.boom.s(),
    "task, retried, linked": lambda w: w.linked(w.again.s(1), w.note.s()),
    "task, sends another": lambda w: w.call.s(1),
    "link": lambda w: w.linked(w.add.s(1, 2), w.note.s("a")),
    "link, two": lambda w: w.linked(w.add.s(1, 2), w.note.s("a"), w.note.s("b")),
    "link, of a link": lambda w: w.linked(w.add.s(1, 2), w.linked(w.add.s(10), w.note.s())),
    "link, immutable": lambda w: w.linked(w.add.s(1, 2), w.note.si("a")),
    "link, twice the same": lambda w: w.linked(w.add.s(1, 2), w.note.s("a"), w.note.s("a")),
    "link, a chain": lambda w: w.linked(w.add.s(1, 2), w.chain(w.add.s(1), w.note.s())),
    "link, a group": lambda w: w.linked(w.add.s(1, 2), w.group(w.note.s(1), w.note.s(2))),
    "link, a chord": lambda w: w.linked(w.add.s(1, 2), w.chord([w.add.s(1), w.add.s(2)], w.note.s())),
    "link, a group and a task": lambda w: w.linked(w.add.s(1, 2), w.group(w.note.s(1), w.note.s(2)), w.note.s(3)),
    "link, fails": lambda w: w.linked(w.add.s(1, 2), w.boom.s()),
    "link, as an option": lambda w: w.add.apply_async((1, 2), link=w.note.s("a"), link_error=w.errback.s()),
    "link, as a list": lambda w: w.add.apply_async((1, 2), link=[w.note.s("a"), w.note.s("b")]),
    "link_error": lambda w: w.guarded(w.boom.s(), w.errback.s()),
    "link_error, not called": lambda w: w.guarded(w.add.s(1, 2), w.errback.s(), w.on_error.s()),
    "link_error, new form": lambda w: w.guarded(w.boom.s(), w.on_error.s()),
    "link_error, both forms": lambda w: w.guarded(w.boom.s(), w.errback.s(), w.on_error.s()),
    "link_error, immutable": lambda w: w.guarded(w.boom.s(), w.echo.si("a")),
    "link_error, with arguments": lambda w: w.guarded(w.boom.s(), w.note.si("a"), w.note.si("b")),
    "link_error, on_error": lambda w: w.boom.s().on_error(w.errback.s()),
    "link_error, a chain": lambda w: w.guarded(w.boom.s(), w.chain(w.note.si(1), w.note.si(2))),
    "link_error, a group": lambda w: w.guarded(w.boom.s(), w.group(w.note.si(1), w.note.si(2))),
    "link_error, of a link": lambda w: w.linked(w.add.s(1, 2), w.guarded(w.boom.s(), w.errback.s())),
    "link_error, after a retry": lambda w: w.guarded(w.linked(w.again.s(1), w.boom.s()), w.errback.s()),
    # -- chains --------------------------------------------------------------------------------------------------
    "chain": lambda w: w.add.s(1, 2) | w.add.s(3) | w.add.s(4),
    "chain, by name": lambda w: w.chain(w.add.s(1, 2), w.add.s(3)),
    "chain, a list": lambda w: w.chain([w.add.s(1, 2), w.add.s(3)]),
    "chain, a generator": lambda w: w.chain(w.add.s(n) if n else w.add.s(0, 1) for n in range(4)),
    "chain, of one": lambda w: w.chain(w.add.s(1, 2)),
    "chain, empty": lambda w: w.chain(),
    "chain, called": lambda w: w.chain(w.add.s(1), w.add.s(3))(2),
    "chain, partial": lambda w: w.chain(w.add.s(1), w.add.s(3)).apply_async((2,)),
    "chain, partial keywords": lambda w: w.chain(w.echo.s(), w.echo.s()).apply_async((2,), {"a": 1}),
    "chain, of chains": lambda w: w.chain(w.chain(w.add.s(1, 2), w.add.s(3)), w.chain(w.add.s(4), w.chain(w.add.s(5)))),
    "chain, immutable steps": lambda w: w.add.s(1, 2) | w.no_args.si() | w.add.s(3),
    "chain, with a link": lambda w: w.chain(w.add.s(1, 2), w.linked(w.add.s(3), w.note.s()), w.add.s(4)),
    "chain, linked": lambda w: w.linked(w.chain(w.add.s(1, 2), w.add.s(3)), w.note.s()),
    "chain, link as an option": lambda w: w.chain(w.add.s(1, 2), w.add.s(3)).apply_async(link=w.note.s()),
    "chain, id as an option": lambda w: w.chain(w.add.s(1, 2), w.add.s(3)).apply_async(task_id="chain-id-given"),
    "chain, ignored step": lambda w: w.chain(w.add.s(1, 2), w.quiet.s(), w.add.s(4)),
    "chain, retried step": lambda w: w.chain(w.add.s(1, 2), w.again.s(), w.add.s(4)),
    "chain, step that sends": lambda w: w.chain(w.call.s(1), w.add.s(4)),
    "chain, first fails": lambda w: w.chain(w.boom.s(), w.add.s(1), w.add.s(2)),
    "chain, middle fails": lambda w: w.chain(w.add.s(1, 2), w.boom.s(), w.add.s(2), w.add.s(3)),
    "chain, last fails": lambda w: w.chain(w.add.s(1, 2), w.boom.s()),
    "chain, fails, guarded": lambda w: w.guarded(w.chain(w.add.s(1, 2), w.boom.s(), w.add.s(2)), w.errback.s()),
    "chain, fails, guarded twice": lambda w: w.guarded(w.chain(w.boom.s(), w.add.s(2)), w.errback.s(), w.on_error.s()),
    "chain, fails, guarded before": lambda w: w.chain(w.guarded(w.add.s(1, 2), w.errback.s()), w.boom.s()),
    "chain, fails, guarded itself": lambda w: w.chain(w.add.s(1, 2), w.guarded(w.boom.s(), w.errback.s()), w.ident.s()),
    "chain, fails, on_error": lambda w: w.chain(w.boom.s(), w.add.s(2)).on_error(w.errback.s()),
    "chain, fails, option": lambda w: w.chain(w.boom.s(), w.add.s(2)).apply_async(link_error=w.errback.s()),
    "chain, linked and fails": lambda w: w.linked(w.chain(w.add.s(1, 2), w.boom.s()), w.note.s()),
    "chain, exception of ours": lambda w: w.chain(w.odd.s(2), w.add.s(2)),
    "chain, wrong arguments": lambda w: w.chain(w.add.s(1, 2), w.no_args.s(), w.add.s(1)),
    "chain, map in it": lambda w: w.chain(w.ident.map([1, 2]), w.xsum.s()),
    "chain, starmap in it": lambda w: w.chain(w.add.s(1, 1), w.add.starmap([(1, 2), (3, 4)]).set(immutable=True), w.xsum.s()),
    "chain, chunks in it": lambda w: w.chain(w.add.chunks([(1, 1), (2, 2), (3, 3)], 2).group(), w.xsum.s()),
    # -- groups --------------------------------------------------------------------------------------------------
    "group": lambda w: w.group(w.add.s(1, 1), w.add.s(2, 2), w.add.s(3, 3)),
    "group, a list": lambda w: w.group([w.add.s(1, 1), w.add.s(2, 2)]),
    "group, a generator": lambda w: w.group(w.add.s(n, n) for n in range(5)),
    "group, of one": lambda w: w.group(w.add.s(1, 1)),
    "group, empty": lambda w: w.group(),
    "group, called": lambda w: w.group(w.add.s(1), w.add.s(2))(10),
    "group, partial": lambda w: w.group(w.add.s(1), w.add.si(2, 2)).apply_async((10,)),
    "group, of groups": lambda w: w.group(w.group(w.add.s(1, 1), w.add.s(2, 2)), w.add.s(3, 3), w.group(w.add.s(4, 4))),
    "group, of chains": lambda w: w.group(w.chain(w.add.s(1, 1), w.add.s(1)), w.add.s(2, 2) | w.add.s(2)),
    "group, of a chord": lambda w: w.group(w.chord([w.add.s(1, 1), w.add.s(2, 2)], w.xsum.s()), w.add.s(3, 3)),
    "group, of a chain of a chord": lambda w: w.group(
        w.chain(w.add.s(1, 1), w.group(w.add.s(1), w.add.s(2)), w.xsum.s()), w.add.s(3, 3)
    ),
    "group, of a chain of a group": lambda w: w.group(w.chain(w.add.s(1, 1), w.group(w.add.s(1), w.add.s(2))), w.add.s(3, 3)),
    "group, of maps": lambda w: w.group(w.ident.map([1, 2]), w.add.starmap([(1, 2)])),
    "group, one fails": lambda w: w.group(w.add.s(1, 1), w.boom.s()),
    "group, guarded": lambda w: w.guarded(w.group(w.boom.s(1), w.add.s(1, 1), w.boom.s(2)), w.errback.s()),
    "group, linked": lambda w: w.linked(w.group(w.add.s(1, 1), w.add.s(2, 2)), w.note.s()),
    "group, link as an option": lambda w: w.group(w.add.s(1, 1)).apply_async(link=w.note.s()),
    "group, ignored member": lambda w: w.group(w.quiet.s(1), w.add.s(1, 1)),
    "group, skewed": lambda w: w.group(w.add.s(n, n) for n in range(3)).skew(start=0, stop=0.3, step=0.1),
    "group, one retried": lambda w: w.group(w.again.s(1), w.add.s(1, 1)),
    # -- groups in chains ----------------------------------------------------------------------------------------
    "group | task": lambda w: w.group(w.add.s(1, 1), w.add.s(2, 2)) | w.xsum.s(),
    "group | task | task": lambda w: w.group(w.add.s(1, 1), w.add.s(2, 2)) | w.xsum.s() | w.add.s(100),
    "group | group": lambda w: w.group(w.add.s(1, 1), w.add.s(2, 2)) | w.group(w.xsum.s(), w.note.s()),
    "group | group | task": lambda w: w.group(w.add.s(1, 1), w.add.s(2, 2)) | w.group(w.xsum.s(), w.xsum.s()) | w.xsum.s(),
    "group | chain": lambda w: w.group(w.add.s(1, 1), w.add.s(2, 2)) | w.chain(w.xsum.s(), w.add.s(1)),
    "group | chord": lambda w: w.group(w.add.s(1, 1), w.add.s(2, 2)) | w.chord([w.xsum.s(), w.xsum.s()], w.xsum.s()),
    "group of one | task": lambda w: w.group(w.add.s(1, 1)) | w.xsum.s(),
    "group of one, generator | task": lambda w: w.group(w.add.s(n, n) for n in [1]) | w.xsum.s(),
    "empty group | task": lambda w: w.group() | w.xsum.s(),
    "task | group": lambda w: w.add.s(1, 1) | w.group(w.add.s(1), w.add.s(2)),
    "task | group of one": lambda w: w.add.s(1, 1) | w.group(w.add.s(1)),
    "task | group of one | task": lambda w: w.add.s(1, 1) | w.group(w.add.s(1)) | w.xsum.s(),
    "task | empty group": lambda w: w.add.s(1, 1) | w.group(),
    "task | empty group | task": lambda w: w.add.s(1, 1) | w.group() | w.echo.s(),
    "task | group | task": lambda w: w.add.s(1, 1) | w.group(w.add.s(1), w.add.s(2)) | w.xsum.s(),
    "task | group | task | group | task": lambda w: (
        w.add.s(1, 1) | w.group(w.add.s(1), w.add.s(2)) | w.xsum.s() | w.group(w.add.s(1), w.add.s(2)) | w.xsum.s()
    ),
    "task | group | group": lambda w: w.add.s(1, 1) | w.group(w.add.s(1), w.add.s(2)) | w.group(w.xsum.s(), w.xsum.s()),
    "task | group of chains | task": lambda w: (
        w.add.s(1, 1) | w.group(w.add.s(1) | w.add.s(10), w.add.s(2) | w.add.s(20) | w.add.s(30)) | w.xsum.s()
    ),
    "task | group of groups | task": lambda w: (
        w.add.s(1, 1) | w.group(w.group(w.add.s(1), w.add.s(2)), w.group(w.add.s(3))) | w.echo.s()
    ),
    "task | chain of groups": lambda w: w.add.s(1, 1) | w.chain(w.group(w.add.s(1), w.add.s(2)), w.group(w.xsum.s(), w.xsum.s())),
    "chain(group, task, group)": lambda w: w.chain(w.group(w.add.s(1, 1)), w.ident.s(), w.group(w.xsum.s(), w.xsum.s())),
    "chain of a chain ending in a group | task": lambda w: (
        w.chain(w.chain(w.add.s(1, 1), w.group(w.add.s(1), w.add.s(2))), w.xsum.s())
    ),
    "group | task, generator": lambda w: w.group(w.add.s(n, n) for n in range(20)) | w.xsum.s(),
    "group | task, immutable": lambda w: w.group(w.add.s(1, 1), w.add.s(2, 2)) | w.no_args.si(),
    "group | task, partial": lambda w: (w.group(w.add.s(1), w.add.s(2)) | w.xsum.s()).apply_async((10,)),
    "group in place": lambda w: w.add.s(1, 1).__or__(w.group(w.add.s(1), w.add.s(2))).__or__(w.echo.s("x")),
    "task | group | task, member fails": lambda w: w.add.s(1, 1) | w.group(w.add.s(1), w.boom.s()) | w.xsum.s() | w.add.s(1),
    "task | group | task, member fails, guarded": lambda w: w.guarded(
        w.chain(w.add.s(1, 1), w.group(w.add.s(1), w.boom.s()), w.xsum.s(), w.add.s(1)), w.errback.s()
    ),
    "task fails | group | task": lambda w: w.boom.s() | w.group(w.add.s(1), w.add.s(2)) | w.xsum.s(),
    "task fails | group": lambda w: w.boom.s() | w.group(w.add.s(1), w.add.s(2)),
    "task fails | group | task, guarded": lambda w: w.guarded(
        w.chain(w.boom.s(), w.group(w.add.s(1), w.add.s(2)), w.xsum.s()), w.errback.s()
    ),
    "task | group, one fails": lambda w: w.add.s(1, 1) | w.group(w.add.s(1), w.boom.s()),
    # -- chords --------------------------------------------------------------------------------------------------
    "chord": lambda w: w.chord([w.add.s(1, 1), w.add.s(2, 2)], w.xsum.s()),
    "chord, called": lambda w: w.chord([w.add.s(1, 1), w.add.s(2, 2)])(w.xsum.s()),
    "chord, of a group": lambda w: w.chord(w.group(w.add.s(1, 1), w.add.s(2, 2)), w.xsum.s()),
    "chord, a generator": lambda w: w.chord((w.add.s(n, n) for n in range(10)), w.echo.s()),
    "chord, of one": lambda w: w.chord([w.add.s(1, 1)], w.xsum.s()),
    "chord, of one group of one": lambda w: w.chord(w.group(w.add.s(1, 1)), w.echo.s()),
    "chord, empty": lambda w: w.chord([], w.echo.s("x")),
    "chord, empty, in a chain": lambda w: w.chain(w.add.s(1, 1), w.chord([], w.echo.s("x"))),
    "chord, order of results": lambda w: w.chord([w.nap.s(1, 0.3), w.nap.s(2, 0.15), w.add.s(1, 2)], w.echo.s()),
    "chord, body with arguments": lambda w: w.chord([w.add.s(1, 1), w.add.s(2, 2)], w.echo.s("x", key=1)),
    "chord, immutable body": lambda w: w.chord([w.add.s(1, 1), w.add.s(2, 2)], w.no_args.si()),
    "chord, partial": lambda w: w.chord([w.add.s(1), w.add.s(2)], w.xsum.s()).apply_async((10,)),
    "chord, linked": lambda w: w.linked(w.chord([w.add.s(1, 1), w.add.s(2, 2)], w.xsum.s()), w.note.s()),
    "chord, link as an option": lambda w: w.chord([w.add.s(1, 1)], w.xsum.s()).apply_async(link=w.note.s()),
    "chord, id as an option": lambda w: w.chord([w.add.s(1, 1), w.add.s(1, 2)], w.xsum.s()).apply_async(task_id="chord-id-given"),
    "chord | task": lambda w: w.chord([w.add.s(1, 1), w.add.s(2, 2)], w.xsum.s()) | w.add.s(1),
    "chord | group": lambda w: w.chord([w.add.s(1, 1), w.add.s(2, 2)], w.xsum.s()) | w.group(w.add.s(1), w.add.s(2)),
    "chord | chord": lambda w: (
        w.chord([w.add.s(1, 1), w.add.s(2, 2)], w.xsum.s()) | w.chord([w.add.s(1), w.add.s(2)], w.xsum.s())
    ),
    "chain of chords": lambda w: w.chain(
        w.chord([w.add.s(1, 1), w.add.s(2, 2)], w.xsum.s()), w.chord([w.add.s(1), w.add.s(2)], w.xsum.s()), w.add.s(5)
    ),
    "task | chord": lambda w: w.add.s(1, 1) | w.chord([w.add.s(1), w.add.s(2)], w.xsum.s()),
    "task | chord | task": lambda w: w.add.s(1, 1) | w.chord([w.add.s(1), w.add.s(2)], w.xsum.s()) | w.add.s(5),
    "chord, body a chain": lambda w: w.chord([w.add.s(1, 1), w.add.s(2, 2)], w.chain(w.xsum.s(), w.add.s(1), w.add.s(2))),
    "chord, body a group": lambda w: w.chord([w.add.s(1, 1), w.add.s(2, 2)], w.group(w.xsum.s(), w.echo.s())),
    "chord, body a chord": lambda w: w.chord([w.add.s(1, 1), w.add.s(2, 2)], w.chord([w.xsum.s(), w.xsum.s()], w.echo.s())),
    "chord, body a chain with a group": lambda w: w.chord(
        [w.add.s(1, 1), w.add.s(2, 2)], w.chain(w.xsum.s(), w.group(w.add.s(1), w.add.s(2)), w.xsum.s())
    ),
    "chord, of chains": lambda w: w.chord([w.add.s(1, 1) | w.add.s(1), w.chain(w.add.s(2, 2), w.add.s(2), w.add.s(3))], w.echo.s()),
    "chord, of chords": lambda w: w.chord(
        [w.chord([w.add.s(1, 1), w.add.s(2, 2)], w.xsum.s()), w.chord([w.add.s(3, 3)], w.xsum.s()), w.add.s(4, 4)], w.echo.s()
    ),
    "chord, of groups": lambda w: w.chord([w.group(w.add.s(1, 1), w.add.s(2, 2)), w.group(w.add.s(3, 3)), w.add.s(4, 4)], w.echo.s()),
    "chord, of chords of chords": lambda w: w.chord(
        [w.chord([w.chord([w.add.s(1, 1), w.add.s(2, 2)], w.xsum.s()), w.add.s(3, 3)], w.xsum.s()), w.add.s(4, 4)], w.echo.s()
    ),
    "chord, of a chain with a group": lambda w: w.chord(
        [w.chain(w.add.s(1, 1), w.group(w.add.s(1), w.add.s(2)), w.xsum.s()), w.add.s(4, 4)], w.echo.s()
    ),
    "chord, of a chain ending in a group": lambda w: w.chord(
        [w.chain(w.add.s(1, 1), w.group(w.add.s(1), w.add.s(2))), w.add.s(4, 4)], w.echo.s()
    ),
    "chord, of a chord with a group for a body": lambda w: w.chord(
        [w.chord([w.add.s(1, 1), w.add.s(2, 2)], w.group(w.xsum.s(), w.xsum.s())), w.add.s(4, 4)], w.echo.s()
    ),
    "chord, of a chain ending in a group of one": lambda w: w.chord(
        [w.chain(w.add.s(1, 1), w.group(w.add.s(1))), w.add.s(4, 4)], w.echo.s()
    ),
    "chord, of a chain ending in chunks": lambda w: w.chord(
        [w.chain(w.add.s(1, 1), w.add.chunks([(1, 1), (2, 2)], 1).group()), w.add.s(4, 4)], w.echo.s()
    ),
    "chord, of a chain starting with a group": lambda w: w.chord(
        [w.chain(w.group(w.add.s(1, 1), w.add.s(2, 2)), w.xsum.s()), w.add.s(4, 4)], w.echo.s()
    ),
    "chord, of a chain ending in a chord": lambda w: w.chord(
        [w.chain(w.add.s(1, 1), w.chord([w.add.s(1), w.add.s(2)], w.xsum.s())), w.add.s(4, 4)], w.echo.s()
    ),
    "chord in a chain in a group | task": lambda w: w.chain(
        w.add.s(1, 1), w.group(w.add.s(1) | w.chord([w.add.s(2), w.add.s(3)], w.xsum.s()), w.add.s(4)), w.echo.s()
    ),
    "chord in a group": lambda w: w.group(w.chord([w.add.s(1, 1)], w.xsum.s()), w.chord([w.add.s(1, 1), w.add.s(2, 2)], w.xsum.s())),
    "chord in a group | task": lambda w: (
        w.group(w.chord([w.add.s(1, 1), w.add.s(2, 2)], w.xsum.s()), w.add.s(3, 3)) | w.echo.s()
    ),
    "group in a chain in a group": lambda w: w.group(w.chain(w.add.s(1, 1), w.group(w.add.s(1), w.add.s(2)), w.xsum.s())),
    "chord, ignored member": lambda w: w.chord([w.quiet.s(1), w.add.s(1, 1)], w.echo.s()),
    "chord, ignored body": lambda w: w.chord([w.add.s(1, 1), w.add.s(1, 1)], w.quiet.s()),
    "chord, retried member": lambda w: w.chord([w.again.s(1), w.add.s(1, 1)], w.echo.s()),
    "chord, members linked": lambda w: w.chord([w.linked(w.add.s(1, 1), w.note.s("m")), w.add.s(2, 2)], w.echo.s()),
    "chord, members that send": lambda w: w.chord([w.call.s(1), w.add.s(2, 2)], w.echo.s()),
    "chord, of maps": lambda w: w.chord([w.ident.map([1, 2]), w.add.starmap([(1, 2), (3, 4)])], w.echo.s()),
    "chord, of chunks": lambda w: w.chord(w.add.chunks([(n, n) for n in range(5)], 2).group(), w.echo.s()),
    "chord, grows": lambda w: w.chord([w.add.s(2, 2), w.grow.s(1)], w.xsum.s()),
    "chord, many members": lambda w: w.chord([w.add.s(n, 0) for n in range(50)], w.echo.s()),
    # -- chords that fail ----------------------------------------------------------------------------------------
    "chord fails": lambda w: w.chord([w.add.s(1, 1), w.boom.s()], w.xsum.s()),
    "chord fails, guarded": lambda w: w.guarded(w.chord([w.add.s(1, 1), w.boom.s()], w.xsum.s()), w.errback.s()),
    "chord fails, guarded, new form": lambda w: w.guarded(w.chord([w.add.s(1, 1), w.boom.s()], w.xsum.s()), w.on_error.s()),
    "chord fails, body guarded": lambda w: w.chord([w.add.s(1, 1), w.boom.s()], w.guarded(w.xsum.s(), w.errback.s())),
    "chord fails, member guarded": lambda w: w.chord([w.add.s(1, 1), w.guarded(w.boom.s(), w.errback.s())], w.xsum.s()),
    "chord fails, option": lambda w: w.chord([w.add.s(1, 1), w.boom.s()], w.xsum.s()).apply_async(link_error=w.errback.s()),
    "chord fails, two members": lambda w: w.guarded(w.chord([w.boom.s(), w.boom.s(), w.add.s(1, 1)], w.xsum.s()), w.errback.s()),
    "chord fails, of one": lambda w: w.guarded(w.chord([w.boom.s()], w.xsum.s()), w.errback.s()),
    "chord fails in the body": lambda w: w.chord([w.add.s(1, 1), w.add.s(2, 2)], w.guarded(w.boom.s(), w.errback.s())),
    "chord fails, body a chain": lambda w: w.guarded(
        w.chord([w.add.s(1, 1), w.boom.s()], w.chain(w.xsum.s(), w.add.s(1))), w.errback.s()
    ),
    "chord fails, body a group": lambda w: w.chord([w.add.s(1, 1), w.boom.s()], w.group(w.xsum.s(), w.echo.s())),
    "chord fails, body a chord": lambda w: w.chord([w.add.s(1, 1), w.boom.s()], w.chord([w.xsum.s(), w.xsum.s()], w.echo.s())),
    "chord fails, member a chain, first step": lambda w: w.guarded(
        w.chord([w.chain(w.boom.s(), w.add.s(1)), w.add.s(2, 2)], w.xsum.s()), w.errback.s()
    ),
    "chord fails, member a chain, last step": lambda w: w.guarded(
        w.chord([w.chain(w.add.s(1, 1), w.boom.s()), w.add.s(2, 2)], w.xsum.s()), w.errback.s()
    ),
    "chord fails, member a chord": lambda w: w.chord(
        [w.chord([w.boom.s(), w.add.s(1, 1)], w.xsum.s()), w.add.s(2, 2)], w.guarded(w.xsum.s(), w.errback.s())
    ),
    "chord fails, member a chord's body": lambda w: w.chord(
        [w.chord([w.add.s(1, 1), w.add.s(1, 1)], w.boom.s()), w.add.s(2, 2)], w.guarded(w.xsum.s(), w.errback.s())
    ),
    "chord fails | task": lambda w: w.chord([w.add.s(1, 1), w.boom.s()], w.xsum.s()) | w.add.s(1),
    "chord fails | task | task, guarded": lambda w: w.guarded(
        w.chain(w.chord([w.add.s(1, 1), w.boom.s()], w.xsum.s()), w.add.s(1), w.add.s(2)), w.errback.s()
    ),
    "chord fails | chord": lambda w: w.chain(
        w.chord([w.add.s(1, 1), w.boom.s()], w.xsum.s()), w.chord([w.add.s(1), w.add.s(2)], w.guarded(w.xsum.s(), w.errback.s()))
    ),
    "task | chord fails": lambda w: w.add.s(1, 1) | w.chord([w.add.s(1), w.boom.s()], w.guarded(w.xsum.s(), w.errback.s())),
    "task fails | chord": lambda w: w.boom.s() | w.chord([w.add.s(1), w.add.s(2)], w.guarded(w.xsum.s(), w.errback.s())),
    "task | group of chains | task, step fails": lambda w: (
        w.add.s(1, 1) | w.group(w.add.s(1) | w.boom.s() | w.add.s(10), w.add.s(2)) | w.guarded(w.xsum.s(), w.errback.s())
    ),
    "chord fails, exception of ours": lambda w: w.chord([w.odd.s(1), w.odd.s(2)], w.xsum.s()),
    "chord, member a chain with a group that fails": lambda w: w.chord(
        [w.chain(w.add.s(1, 1), w.group(w.add.s(1), w.boom.s()), w.xsum.s()), w.add.s(4, 4)], w.guarded(w.xsum.s(), w.errback.s())
    ),
    "chord, member's wrong arguments": lambda w: w.chord([w.no_args.s(1), w.add.s(1, 1)], w.guarded(w.xsum.s(), w.errback.s())),
    # -- maps ----------------------------------------------------------------------------------------------------
    "map": lambda w: w.ident.map([1, 2, 3]),
    "map, empty": lambda w: w.ident.map([]),
    "map, fails": lambda w: w.odd.map([1, 2, 3]),
    "map, a class": lambda w: w.xmap(w.ident.s(), [1, 2], app=w.app),
    "starmap": lambda w: w.add.starmap([(1, 2), (3, 4)]),
    "starmap, a class": lambda w: w.xstarmap(w.add.s(), [(1, 2)], app=w.app),
    "chunks": lambda w: w.add.chunks([(n, n) for n in range(7)], 3),
    "chunks, a group": lambda w: w.add.chunks([(n, n) for n in range(7)], 3).group(),
    "chunks, called": lambda w: w.add.chunks([(n, n) for n in range(4)], 2)(),
    "chunks | task": lambda w: w.add.chunks([(n, n) for n in range(4)], 2).group() | w.xsum.s(),
    # -- stamps --------------------------------------------------------------------------------------------------
    "stamped task": lambda w: w.stamped(w.add.s(1, 2), tenant="a"),
    "stamped link": lambda w: w.stamped(w.linked(w.add.s(1, 2), w.note.s()), tenant="a"),
    "stamped chain": lambda w: w.stamped(w.chain(w.add.s(1, 2), w.add.s(3)), tenant="a"),
    "stamped group": lambda w: w.stamped(w.group(w.add.s(1, 2), w.add.s(3, 3)), tenant="a"),
    "stamped chord": lambda w: w.stamped(w.chord([w.add.s(1, 2), w.add.s(3, 3)], w.xsum.s()), tenant="a"),
    "stamped chain with a group": lambda w: w.stamped(
        w.chain(w.add.s(1, 2), w.group(w.add.s(1), w.add.s(2)), w.xsum.s(), w.add.s(1)), tenant="a"
    ),
    "stamped, fails, guarded": lambda w: w.stamped(w.guarded(w.boom.s(), w.errback.s()), tenant="a"),
    # -- tasks that are added, or replaced: see below ------------------------------------------------------------
    "replaced, guarded": lambda w: w.guarded(w.become.s(1, "boom"), w.errback.s()),
    "replaced, first of a chain": lambda w: w.chain(w.become.s(1, "chain"), w.add.s(100), w.add.s(1000)),
    "replaced, first of a chain, chord": lambda w: w.chain(w.become.s(1, "chord"), w.add.s(100), w.add.s(1000)),
    "replaced, body of a chord": lambda w: w.chord([w.add.s(1, 1), w.add.s(2, 2)], w.xsum.s() | w.become.s("chain")),
    "replaced, in a chain in a chord": lambda w: w.chord(
        [w.chain(w.become.s(1, "chain"), w.add.s(5)), w.add.s(2, 2)], w.echo.s()
    ),
    "replaced by a chord, in a chain in a chord": lambda w: w.chord(
        [w.chain(w.add.s(1, 1), w.become.s("chord")), w.add.s(2, 2)], w.echo.s()
    ),
    "replaced, chain fails, guarded": lambda w: w.guarded(w.chain(w.become.s(1, "boom"), w.add.s(1)), w.errback.s()),
    "replaced, chord fails, guarded": lambda w: w.guarded(
        w.chord([w.become.s(1, "boom"), w.add.s(1, 1)], w.xsum.s()), w.errback.s()
    ),
}  # fmt: skip

_PLACES = {
    "alone": lambda w, one: one,
    "linked": lambda w, one: w.linked(one, w.note.s("theirs")),
    "in a chain": lambda w, one: w.chain(w.ident.s(1), one, w.ident.s(), w.note.s()),
    "in a group": lambda w, one: w.group(one, w.add.s(1, 1)),
    "in a chord": lambda w, one: w.chord([w.add.s(1, 1), one, w.add.s(2, 2)], w.echo.s()),
}


def _replaced(place, kind):
    def build(w):
        one = w.become.s(kind) if place == "in a chain" else w.become.s(1, kind)
        return _PLACES[place](w, one)

    return build


for _place, _kind in product(_PLACES, KINDS):
    TABLE[f"replaced {_place}, {_kind}"] = _replaced(_place, _kind)

HEADER_GUARDED = {
    name: TABLE[name]
    for name in (
        "chord fails, guarded", "chord fails, guarded, new form", "chord fails, two members", "chord fails, of one",
        "chord fails, body a chain", "chord fails, member a chain, first step", "chord fails | task | task, guarded",
        "chord fails in the body", "chord fails, option",
    )
}  # fmt: skip
"""Those to run with `task_allow_error_cb_on_chord_header` too."""
