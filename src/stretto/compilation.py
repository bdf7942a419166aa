"""From what somebody asks for to the specs that would run: the commit, its definition files, all faults, the graph."""

from __future__ import annotations

import functools
import posixpath
from collections.abc import Awaitable, Callable

from stretto.core.errors import InputError, StrettoError
from stretto.core.ports import Repositories, Source, UploadStore
from stretto.core.spec import RunSpec
from stretto.definitions import Definition, check_file, choose, compile_pipeline, load, locate
from stretto.definitions.locate import DIRECTORY, ROOT_FILES
from stretto.waist import RunRequest


class Compiler:
    """Compiles requests. Stores nothing; what is refused leaves nothing behind."""

    def __init__(
        self,
        repositories: Repositories,
        uploads: UploadStore | None,
        *,
        default_driver: str,
        check_driver: Callable[[str], object],
    ) -> None:
        """`check_driver` raises InputError for a name that is no driver; `uploads` None is a place where there are none."""
        self._repositories = repositories
        self._uploads = uploads
        self._default_driver = default_driver
        self._check_driver = check_driver

    async def compile(self, request: RunRequest) -> tuple[Source, list[RunSpec]]:
        """Return the commit that is meant and the specs of the pipelines asked for; DefinitionError, SourceError, InputError."""
        if request.file is not None:
            check_file(request.file)
        source = await self._resolve(request)
        try:
            return source, await self._compile_source(source, request)
        except StrettoError:
            await self._repositories.forget(source)
            raise

    async def _resolve(self, request: RunRequest) -> Source:
        if request.upload is None:
            return await self._repositories.resolve(
                request.repository,
                branch=request.branch,
                commit=request.commit,
                working_tree=request.working_tree,
                cwd=request.directory,
            )
        if self._uploads is None:
            raise InputError("a tree that was uploaded to a server can be run by that server only")
        upload = await self._uploads.use(request.upload)
        for name in ("repository", "branch", "commit"):
            wanted, known = getattr(request, name), getattr(upload, name)
            if wanted not in (None, known):
                raise InputError(
                    f"upload {upload.id[:12]} has {name} {known!r}, not {wanted!r}",
                    hint=f"leave out {name}: an upload says itself what it is",
                )
        return await self._repositories.resolve_upload(upload)

    async def _compile_source(self, source: Source, request: RunRequest) -> list[RunSpec]:
        repositories = self._repositories
        if request.definition is not None:
            name = request.file or ROOT_FILES[0]
            definitions = [load(name, request.definition.encode(), overrides=request.overrides)]
            return self._specs(definitions, request, source)
        try:
            files = await self._locate(request, functools.partial(repositories.list_files, source))
        except InputError as error:
            raise await self._explain(error, request, source) from error
        definitions = [
            load(file, await repositories.read_file(source, file), overrides=request.overrides) for file in files
        ]
        return self._specs(definitions, request, source)

    def _specs(self, definitions: list[Definition], request: RunRequest, source: Source) -> list[RunSpec]:
        """Return the specs of the pipelines that are asked for."""
        driver = request.driver or self._default_driver
        self._check_driver(driver)
        return [
            compile_pipeline(definition, driver=driver, variables=request.variables, source=source.spec)
            for definition in choose(definitions, request.pipelines)
        ]

    async def _locate(self, request: RunRequest, listed: Callable[[str], Awaitable[list[str]]]) -> tuple[str, ...]:
        """Return the definition files among what `listed` gives of a directory; InputError."""
        listing = await listed(posixpath.dirname(request.file or ""))
        if request.file is None and not set(ROOT_FILES) & set(listing):
            listing += await listed(DIRECTORY)
        return locate(listing, file=request.file)

    async def _explain(self, error: InputError, request: RunRequest, source: Source) -> InputError:
        """Return a better error than that there is no definition file, if one waits to be committed."""
        if request.working_tree or request.branch is not None or request.commit is not None:
            return error
        try:
            listed = functools.partial(self._repositories.list_working_tree, source)
            files = await self._locate(request, listed)
        except InputError:
            return error
        return InputError(
            f"the working tree has {', '.join(files)}, but not committed; a run takes what the commit has",
            hint="commit it, or run the files as they are with --working-tree",
        )
