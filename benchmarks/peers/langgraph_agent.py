"""The workloads on LangGraph: a chat model and a ToolNode with the PostgreSQL checkpointer, `durability="sync"`.

Only "sync" keeps a completed step for certain when the process is killed; the
default writes behind. The deltas reach the caller's stream and are not stored.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_core.tools import tool
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import ToolNode, tools_condition
from psycopg.rows import dict_row
from psycopg_pool import AsyncConnectionPool

from benchmarks import workload
from benchmarks.subject import Bare, database_url, main
from benchmarks.workload import PROMPT, TOOL, Workload

# As the checkpointer's documentation wants its connections.
CONNECTION = {"autocommit": True, "prepare_threshold": 0, "row_factory": dict_row}


class FakeChat(BaseChatModel):
    """A chat model that asks for the calls of each round, then says the words."""

    workload: Workload

    @property
    def _llm_type(self) -> str:
        return "fake"

    def _generate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        raise NotImplementedError("it is asked to stream")

    async def _agenerate(self, messages: list[BaseMessage], *args: Any, **kwargs: Any) -> ChatResult:
        said = [chunk.message async for chunk in self._astream(messages)]
        return ChatResult(generations=[ChatGeneration(message=AIMessage("".join(str(one.content) for one in said)))])

    async def _astream(
        self, messages: list[BaseMessage], *args: Any, **kwargs: Any
    ) -> AsyncIterator[ChatGenerationChunk]:
        turn = 1 + sum(isinstance(message, AIMessage) for message in messages)
        if turn > self.workload.rounds:
            for word in self.workload.words:
                yield ChatGenerationChunk(message=AIMessageChunk(word))
        else:
            calls = [
                {"name": TOOL, "args": json.dumps(call.arguments), "id": call.id, "index": place}
                for place, call in enumerate(self.workload.asked(turn))
            ]
            yield ChatGenerationChunk(message=AIMessageChunk("", tool_call_chunks=calls))


@tool
async def weather(city: str) -> dict[str, str | int]:
    """Weather of a city."""
    return workload.weather(city)


class LangGraphAgent(Bare):
    """One compiled graph with one saver, as the documentation shows; a thread a run."""

    pool: AsyncConnectionPool
    graph: Any

    async def open(self, in_flight: int) -> None:
        """Open the pool, make the tables and compile the graph."""
        self.pool = AsyncConnectionPool(database_url(), min_size=4, max_size=32, open=False, kwargs=CONNECTION)
        await self.pool.open(wait=True)
        saver = AsyncPostgresSaver(self.pool)
        await saver.setup()
        self.graph = _graph(self.workload).compile(checkpointer=saver)

    async def run(self, number: int) -> str:
        """Stream one run to its end, as an app that shows tokens does."""
        said: dict[str, Any] = {}
        heard = []
        stream = self.graph.astream(
            {"messages": [HumanMessage(PROMPT)]},
            {"configurable": {"thread_id": f"thread-{number}"}},
            stream_mode=["messages", "updates"],
            durability="sync",
        )
        async for mode, item in stream:
            if mode == "updates":
                said = item
            elif item[0].type == "AIMessageChunk" and item[0].content:
                heard.append(item[0].content)
        text: str = said["model"]["messages"][-1].content
        assert "".join(heard) == text, heard
        return text

    async def close(self) -> None:
        """Close the pool."""
        await self.pool.close()


def _graph(workload: Workload) -> StateGraph:
    model = FakeChat(workload=workload)

    async def ask_model(state: MessagesState) -> dict[str, list[BaseMessage]]:
        return {"messages": [await model.ainvoke(state["messages"])]}

    graph = StateGraph(MessagesState)
    graph.add_node("model", ask_model)
    graph.add_node("tools", ToolNode([weather]))
    graph.add_edge(START, "model")
    graph.add_conditional_edges("model", tools_condition)
    graph.add_edge("tools", "model")
    return graph


if __name__ == "__main__":
    main("LangGraph: agent, sync", LangGraphAgent)
