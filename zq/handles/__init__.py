"""What the blocking and the asyncio face share: everything but how they wait."""
